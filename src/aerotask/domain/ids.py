"""Identifiers: UUID version 7, so that ids sort by creation time."""

from __future__ import annotations

from typing import NewType
from uuid import UUID

from uuid_utils.compat import uuid7

TaskId = NewType("TaskId", UUID)
UserId = NewType("UserId", UUID)
OrgId = NewType("OrgId", UUID)
DatasetId = NewType("DatasetId", UUID)
EntryId = NewType("EntryId", UUID)
UploadId = NewType("UploadId", UUID)
LinkId = NewType("LinkId", UUID)
LeaseToken = NewType("LeaseToken", UUID)


def new_id() -> UUID:
    """A new UUID version 7 (RFC 9562, section 5.7)."""
    return uuid7()

"""Quota classes: groups of tools whose active tasks are limited together."""

from __future__ import annotations

from enum import StrEnum


class QuotaClass(StrEnum):
    """A limit on a user's active tasks, shared by all tools of the class."""

    BULK = "bulk"
    """Tools that work through large amounts of data; `AEROTASK_MAX_ACTIVE_BULK_DOWNLOADS_PER_USER` is the limit."""

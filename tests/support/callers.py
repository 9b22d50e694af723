"""Callers with fixed identities, for tests of services without the API."""

from __future__ import annotations

from aerotask.domain.access import Access, Caller
from aerotask.domain.ids import DatasetId
from aerotask.services.accounts.permissions import Grant, PermissionService, Reauthenticate


def always(caller: Caller) -> Reauthenticate:
    """Always verifies as this caller."""

    async def ask() -> Caller:
        return caller

    return ask


def permit(access: PermissionService, caller: Caller, dataset_id: DatasetId) -> Grant:
    """The caller's grant of write access to the dataset."""
    return Grant(access, always(caller), dataset_id, Access.WRITE)

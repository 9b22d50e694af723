"""Callers who stay who they are, for tests of services without an API before them."""

from __future__ import annotations

from aerotask.domain.access import Access, Caller
from aerotask.domain.ids import DatasetId
from aerotask.services.accounts.permissions import Grant, PermissionService, Reauthenticate


def always(caller: Caller) -> Reauthenticate:
    """It is this caller, whenever it is asked."""

    async def ask() -> Caller:
        return caller

    return ask


def permit(access: PermissionService, caller: Caller, dataset_id: DatasetId) -> Grant:
    """The caller's right to write in the dataset."""
    return Grant(access, always(caller), dataset_id, Access.WRITE)

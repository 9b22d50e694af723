"""Callers who stay who they are, for tests of services without an API before them."""

from __future__ import annotations

from aerotask.domain.access import Access, Caller
from aerotask.domain.ids import DatasetId
from aerotask.services.accounts.permissions import AccessService, Ask, Permit


def always(caller: Caller) -> Ask:
    """It is this caller, whenever it is asked."""

    async def ask() -> Caller:
        return caller

    return ask


def permit(access: AccessService, caller: Caller, dataset_id: DatasetId) -> Permit:
    """The caller's right to write in the dataset."""
    return Permit(access, always(caller), dataset_id, Access.WRITE)

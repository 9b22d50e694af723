"""How much an organization and a user may store; checked under a lock, so that racing uploads can't exceed it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.errors import LimitReached
from aerotask.domain.ids import DatasetId
from aerotask.store import locks, usage
from aerotask.store.locks import LockSpace
from aerotask.store.usage import Payer

RETRY_AFTER_S = 3600


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """The bytes that may be stored; None: as many as the disk takes."""

    bytes_per_org: int | None = None
    bytes_per_user: int | None = None
    """In all organizations that a user owns together."""

    @property
    def unlimited(self) -> bool:
        """Whether there is nothing to check."""
        return self.bytes_per_org is None and self.bytes_per_user is None


UNLIMITED = StorageLimits()


@dataclass(frozen=True, slots=True)
class _Share:
    name: str
    limit: int
    used: int


@asynccontextmanager
async def within_limits(
    connection: AsyncConnection, limits: StorageLimits, dataset_id: DatasetId
) -> AsyncIterator[None]:
    """Let the block add bytes to the dataset, in the connection's transaction, as long as the limits hold after it.

    What frees bytes, or adds none, is let through even when a limit was lowered below what is there.

    Raises:
        LimitReached: the block would exceed a limit, and which (`storage-quota-exceeded`).
    """
    payer = None if limits.unlimited else await usage.payer_of(connection, dataset_id)
    if payer is None:
        yield
        return
    # Held until the transaction ends: nobody else's bytes are in flight between these two sums.
    for key in sorted(_keys(payer, limits)):
        await locks.take(connection, LockSpace.STORAGE, key)
    before = await _shares(connection, limits, payer)
    yield
    after = await _shares(connection, limits, payer)
    for was, now in zip(before, after, strict=True):
        if now.used > was.used and now.used > now.limit:
            raise _exceeded(was, now.used - was.used)


async def refuse_beyond(
    connection: AsyncConnection, limits: StorageLimits, dataset_id: DatasetId, *, more_bytes: int
) -> None:
    """Refuse what is known to be too much before its bytes are taken in; `within_limits` decides.

    Raises:
        LimitReached: so many more bytes would exceed a limit as things stand.
    """
    payer = None if limits.unlimited else await usage.payer_of(connection, dataset_id)
    if payer is not None:
        for share in await _shares(connection, limits, payer):
            if more_bytes > 0 and share.used + more_bytes > share.limit:
                raise _exceeded(share, more_bytes)


async def left_bytes(connection: AsyncConnection, limits: StorageLimits, dataset_id: DatasetId) -> int | None:
    """How many bytes more the dataset may hold as things stand, less than none if there are too many; None: any."""
    payer = None if limits.unlimited else await usage.payer_of(connection, dataset_id)
    if payer is None:
        return None
    return min((share.limit - share.used for share in await _shares(connection, limits, payer)), default=None)


def _keys(payer: Payer, limits: StorageLimits) -> set[int]:
    ids = [payer.org_id] if limits.bytes_per_org is not None else []
    owner = [payer.owner_id] if limits.bytes_per_user is not None and payer.owner_id else []
    return {locks.key_of(who.bytes[-4:]) for who in (*ids, *owner)}


async def _shares(connection: AsyncConnection, limits: StorageLimits, payer: Payer) -> list[_Share]:
    shares: list[_Share] = []
    if limits.bytes_per_org is not None:
        stored = await usage.stored_in_org(connection, payer.org_id)
        shares.append(_Share("maxStorageBytesPerOrg", limits.bytes_per_org, stored.total_bytes))
    if limits.bytes_per_user is not None and payer.owner_id is not None:
        stored = await usage.stored_of_owner(connection, payer.owner_id)
        shares.append(_Share("maxStorageBytesPerUser", limits.bytes_per_user, stored.total_bytes))
    return shares


def _exceeded(share: _Share, more_bytes: int) -> LimitReached:
    return LimitReached(
        f"{share.used} bytes are stored, and {more_bytes} more would exceed the limit ({share.name}) of "
        f"{share.limit}; remove what isn't needed any more.",
        code="storage-quota-exceeded",
        limit_name=share.name,
        limit=share.limit,
        current=share.used,
        retry_after_s=RETRY_AFTER_S,
    )

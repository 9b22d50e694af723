"""Storage quota of organizations and users, checked under a lock so that concurrent uploads can't exceed it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.locks import LockSpace
from aerotask.domain.errors import LimitReached
from aerotask.domain.ids import DatasetId, OrgId, UserId
from aerotask.domain.settings import StorageQuota
from aerotask.store.tasks import usage
from aerotask.store.tasks.usage import Payer

RETRY_AFTER_S = 3600


UNLIMITED = StorageQuota()


@dataclass(frozen=True, slots=True)
class _Share:
    """A limit with its current usage."""

    name: str
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Headroom:
    """Bytes that may still be stored: a longer stream is refused while it arrives, not after it has filled a disk."""

    shares: tuple[_Share, ...] = ()
    freed_bytes: int = 0
    """Size of the content that is replaced."""

    @property
    def left_bytes(self) -> int | None:
        """Bytes that may be added; negative if the quota is exceeded, None without a limit."""
        return min((share.limit - share.used for share in self.shares), default=None)

    def check(self, size_bytes: int) -> None:
        """Raises if content of this size would exceed a limit.

        Raises:
            LimitReached: the quota would be exceeded.
        """
        more_bytes = size_bytes - self.freed_bytes
        for share in self.shares:
            if more_bytes > 0 and share.used + more_bytes > share.limit:
                raise _exceeded(share, more_bytes)

    async def bounded(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same bytes; raises as soon as they exceed the headroom."""
        size_bytes = 0
        async for chunk in content:
            size_bytes += len(chunk)
            self.check(size_bytes)
            yield chunk


UNBOUNDED = Headroom()


@asynccontextmanager
async def within_limits(
    connection: AsyncConnection, limits: StorageQuota, dataset_id: DatasetId
) -> AsyncIterator[None]:
    """Enforces the quota on a block that adds bytes to the dataset, in the connection's transaction.

    A block that adds no bytes is allowed even if a lowered limit is already exceeded.

    Raises:
        LimitReached: the block exceeds a limit (`storage-quota-exceeded`).
    """
    payer = None if limits.unlimited else await usage.lock_payer(connection, dataset_id)
    if payer is None:
        yield
        return
    # Held until the transaction ends: otherwise others could add bytes between the two sums.
    for key in sorted(_keys(payer, limits)):
        await locks.take(connection, LockSpace.STORAGE, key)
    before = await _shares(connection, limits, payer)
    yield
    after = await _shares(connection, limits, payer)
    for was, now in zip(before, after, strict=True):
        if now.used > was.used and now.used > now.limit:
            raise _exceeded(was, now.used - was.used)


async def headroom_for(
    connection: AsyncConnection, limits: StorageQuota, dataset_id: DatasetId, *, freed_bytes: int = 0
) -> Headroom:
    """The dataset's current headroom, for early checks; `within_limits` is authoritative."""
    payer = None if limits.unlimited else await usage.payer_of(connection, dataset_id)
    shares = [] if payer is None else await _shares(connection, limits, payer)
    return Headroom(tuple(shares), freed_bytes)


async def check_transfer(
    connection: AsyncConnection, limits: StorageQuota, org_id: OrgId, *, to: UserId
) -> None:
    """Raises if the new owner exceeds their quota, in the transaction that has transferred the organization.

    Raises:
        LimitReached: the user's organizations together would store more than allowed.
    """
    if limits.bytes_per_user is None:
        return
    for key in sorted(_keys(Payer(org_id, to), limits)):
        await locks.take(connection, LockSpace.STORAGE, key)
    given_bytes = (await usage.stored_in_org(connection, org_id)).total_bytes
    owned_bytes = (await usage.stored_of_owner(connection, to)).total_bytes
    if given_bytes > 0 and owned_bytes > limits.bytes_per_user:
        share = _Share("maxStorageBytesPerUser", limits.bytes_per_user, owned_bytes - given_bytes)
        raise _exceeded(share, given_bytes)


def _keys(payer: Payer, limits: StorageQuota) -> set[int]:
    ids = [payer.org_id] if limits.bytes_per_org is not None else []
    owner = [payer.owner_id] if limits.bytes_per_user is not None and payer.owner_id else []
    return {locks.key_of(owner_id.bytes[-4:]) for owner_id in (*ids, *owner)}


async def _shares(connection: AsyncConnection, limits: StorageQuota, payer: Payer) -> list[_Share]:
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
        f"{share.limit}; remove files that you don't need.",
        code="storage-quota-exceeded",
        limit_name=share.name,
        limit=share.limit,
        current=share.used,
        retry_after_s=RETRY_AFTER_S,
    )

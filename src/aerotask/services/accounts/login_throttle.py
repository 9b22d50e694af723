"""How often signing in may fail: for one account, and from one address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import Database
from aerotask.domain.access import Caller
from aerotask.domain.errors import LimitReached
from aerotask.domain.settings import LoginLimits
from aerotask.store.accounts import login_attempts
from aerotask.store.accounts.login_attempts import AttemptCount

# A bucket that Postgres called full is taken for full this long without asking again: a storm costs no query.
REMEMBERED_S = 5.0
# Refusals are answered after a moment, in which their connection can't ask again; not of more than so many.
HELD_S = 1.0
MAX_HELD = 2000
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A sign-in that has been let through and counts as failed until it is forgiven."""

    account: str
    address: str
    filled: tuple[str, ...]
    """Which of the two take no further try, should this one fail."""


@dataclass(frozen=True, slots=True)
class LoginThrottle:
    """The limits, and what this process knows of those who are beyond them."""

    db: Database
    limits: LoginLimits
    held_s: float = HELD_S
    _held: set[object] = field(default_factory=set)
    _full: dict[str, tuple[float, AttemptCount]] = field(default_factory=dict)

    @asynccontextmanager
    async def trying(self, caller: Caller, user_name: str) -> AsyncIterator[LoginAttempt]:
        """A try that counts as failed unless the block forgives it, or too much else is tried for it to be judged.

        Raises:
            LimitReached: as for `admit`.
        """
        attempt = await self.admit(caller, user_name)
        try:
            yield attempt
        except LimitReached:
            async with self.db.begin() as connection:
                await login_attempts.withdraw(connection, account=attempt.account, address=attempt.address)
            raise

    async def admit(self, caller: Caller, user_name: str) -> LoginAttempt:
        """Let a try through.

        Raises:
            LimitReached: the account or the address has failed too often; raised after a moment.
        """
        try:
            return await self._admitted(caller, user_name)
        except LimitReached:
            await self._hold()
            raise

    async def _admitted(self, caller: Caller, user_name: str) -> LoginAttempt:
        # By a digest: people type passwords into the wrong field, and tables are read by many.
        account = f"account:{sha256(user_name.encode(errors='replace')).hexdigest()[:32]}"
        address = f"address:{counted(caller.address)}"
        self._refuse_remembered(address, account)
        async with self.db.read() as connection:
            standing = await login_attempts.standing(connection, [address, account])
        for attempts in standing:
            if attempts.failures >= self._limit(attempts.bucket):
                self._remember(attempts)
                raise self._refusal(attempts)
        filled = []
        async with self.db.begin() as connection:
            # The address first, by everybody: see `sign_ins.forgive`.
            for bucket in (address, account):
                attempts = await login_attempts.count_one(connection, bucket, window_s=self.limits.window_s)
                if attempts.failures > self._limit(bucket):
                    raise self._refusal(attempts)
                if attempts.failures == self._limit(bucket):
                    filled.append(bucket)
        return LoginAttempt(account, address, tuple(filled))

    async def forgive(self, connection: AsyncConnection, attempt: LoginAttempt) -> None:
        """Within the caller's transaction: the try has succeeded."""
        await login_attempts.forgive(connection, account=attempt.account, address=attempt.address)
        self._full.pop(attempt.account, None)

    async def _hold(self) -> None:
        """Slow a storm down to the pace of its connections, at the cost of a timer each."""
        if len(self._held) >= MAX_HELD:
            return
        held = object()
        self._held.add(held)
        try:
            await asyncio.sleep(self.held_s)
        finally:
            self._held.discard(held)

    def _limit(self, bucket: str) -> int:
        return self.limits.per_address if bucket.startswith("address:") else self.limits.per_account

    def _remember(self, attempts: AttemptCount) -> None:
        if len(self._full) >= MAX_REMEMBERED:
            self._full.clear()
        self._full[attempts.bucket] = (time.monotonic(), attempts)

    def _refuse_remembered(self, *buckets: str) -> None:
        for bucket in buckets:
            noted_s, attempts = self._full.get(bucket, (0.0, None))
            if attempts is None:
                continue
            if time.monotonic() - noted_s < min(REMEMBERED_S, attempts.left_s):
                raise self._refusal(attempts)
            del self._full[bucket]

    def _refusal(self, attempts: AttemptCount) -> LimitReached:
        of_address = attempts.bucket.startswith("address:")
        return LimitReached(
            "Signing in has failed too often; wait before you try again.",
            code="too-many-sign-ins",
            limit_name="failedSignInsPerAddress" if of_address else "failedSignInsPerAccount",
            limit=self._limit(attempts.bucket),
            current=attempts.failures,
            retry_after_s=attempts.left_s,
        )


def counted(address: str | None) -> str:
    """What counts as one address: of IPv6 the network of 64 bits that everybody gets for themselves."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return "-"  # a socket of this host, or whatever a proxy calls its client
    if isinstance(parsed, IPv6Address):
        # A listener of both kinds tells IPv4 addresses so; they are no others.
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)

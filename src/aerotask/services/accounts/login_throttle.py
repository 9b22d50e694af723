"""Login throttle: limits failed sign-ins per account and per address."""

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

# A full bucket is cached this long, so that a storm of sign-ins costs no queries.
CACHED_S = 5.0
# Refusals are delayed, which slows a storm down; at most so many at a time, since each keeps a connection.
DELAY_S = 1.0
MAX_DELAYED = 2000
MAX_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """An admitted attempt, counted as failed until its success is recorded."""

    account: str
    address: str
    exhausted: tuple[str, ...]
    """The buckets that admit no further attempt if this one fails."""


@dataclass(frozen=True, slots=True)
class LoginThrottle:
    """The limits, and this process's cache of full buckets."""

    db: Database
    limits: LoginLimits
    delay_s: float = DELAY_S
    _delayed: set[object] = field(default_factory=set)
    _full: dict[str, tuple[float, AttemptCount]] = field(default_factory=dict)

    @asynccontextmanager
    async def attempt(self, caller: Caller, user_name: str) -> AsyncIterator[LoginAttempt]:
        """An attempt that counts as failed unless the block records its success.

        It is withdrawn if the block raises `LimitReached`: then the password was not checked.

        Raises:
            LimitReached: the account or the address has too many failed attempts; raised after a delay.
        """
        try:
            attempt = await self._admit(caller, user_name)
        except LimitReached:
            await self._delay()
            raise
        try:
            yield attempt
        except LimitReached:
            async with self.db.begin() as connection:
                await login_attempts.withdraw(connection, account=attempt.account, address=attempt.address)
            raise

    async def _admit(self, caller: Caller, user_name: str) -> LoginAttempt:
        # A digest, since people type passwords into the wrong field and many can read the tables.
        account = f"account:{sha256(user_name.encode(errors='replace')).hexdigest()[:32]}"
        address = f"address:{throttled_address(caller.address)}"
        self._raise_if_cached(address, account)
        async with self.db.read() as connection:
            active = await login_attempts.find_active(connection, [address, account])
        for attempts in active:
            if attempts.failures >= self._limit(attempts.bucket):
                self._cache(attempts)
                raise self._limit_reached(attempts)
        exhausted = []
        async with self.db.begin() as connection:
            # The address first, as in `login_attempts.record_success`: otherwise two attempts could deadlock.
            for bucket in (address, account):
                attempts = await login_attempts.increment(connection, bucket, window_s=self.limits.window_s)
                if attempts.failures > self._limit(bucket):
                    raise self._limit_reached(attempts)
                if attempts.failures == self._limit(bucket):
                    exhausted.append(bucket)
        return LoginAttempt(account, address, tuple(exhausted))

    async def record_success(self, connection: AsyncConnection, attempt: LoginAttempt) -> None:
        """Clears the account's failures, within the caller's transaction."""
        await login_attempts.record_success(connection, account=attempt.account, address=attempt.address)
        self._full.pop(attempt.account, None)

    async def _delay(self) -> None:
        """Delays a refusal, unless too many are delayed already."""
        if len(self._delayed) >= MAX_DELAYED:
            return
        refusal = object()
        self._delayed.add(refusal)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self._delayed.discard(refusal)

    def _limit(self, bucket: str) -> int:
        return self.limits.per_address if bucket.startswith("address:") else self.limits.per_account

    def _cache(self, attempts: AttemptCount) -> None:
        if len(self._full) >= MAX_CACHED:
            self._full.clear()
        self._full[attempts.bucket] = (time.monotonic(), attempts)

    def _raise_if_cached(self, *buckets: str) -> None:
        for bucket in buckets:
            cached_s, attempts = self._full.get(bucket, (0.0, None))
            if attempts is None:
                continue
            if time.monotonic() - cached_s < min(CACHED_S, attempts.left_s):
                raise self._limit_reached(attempts)
            del self._full[bucket]

    def _limit_reached(self, attempts: AttemptCount) -> LimitReached:
        of_address = attempts.bucket.startswith("address:")
        return LimitReached(
            "Too many failed sign-ins; wait before you try again.",
            code="too-many-sign-ins",
            limit_name="failedSignInsPerAddress" if of_address else "failedSignInsPerAccount",
            limit=self._limit(attempts.bucket),
            current=attempts.failures,
            retry_after_s=attempts.left_s,
        )


def throttled_address(address: str | None) -> str:
    """The address that is throttled; for IPv6 the /64 network, which is what one subscriber gets."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return "-"  # a local socket, or a proxy's own name for its client
    if isinstance(parsed, IPv6Address):
        # Dual-stack sockets report IPv4 addresses as mapped ones.
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)

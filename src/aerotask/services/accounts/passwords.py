"""Passwords: hashed with argon2id, one at a time and after everything else that the process does."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from aerotask.domain.errors import InvalidInput, LimitReached

MIN_CHARS = 8
MAX_CHARS = 1024
# What may wait for the one thread: some seconds of hashing, beyond which waiting helps nobody.
MAX_WAITING = 32
RETRY_AFTER_S = 5
_NICE = 10

T = TypeVar("T")


class Hasher(Protocol):
    """What is asked of argon2's `PasswordHasher`."""

    def hash(self, password: str, /) -> str:
        """A fresh hash of the password."""
        ...

    def verify(self, hashed: str, password: str, /) -> bool:
        """Whether it is the password's hash; raises if not."""
        ...

    def check_needs_rehash(self, hashed: str, /) -> bool:
        """Whether the hash was made with other parameters."""
        ...


class Passwords:
    """Hashes and compares. Sign-ins queue for one thread of low priority, so a storm of them is only slow itself."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords", initializer=_after_all_others)
        self._waiting = 0
        # Compared with where there is no password, so that the answer takes the same work.
        self._decoy = hasher.hash(secrets.token_hex(16))

    async def fits(self, hashed: str | None, password: str) -> bool:
        """Whether it is the password; without a hash no password fits, after the same work.

        Raises:
            LimitReached: too many wait already.
        """
        compared = hashed or self._decoy
        fits = await self._in_turn(lambda: self._verify(compared, password[:MAX_CHARS]))
        return fits and bool(hashed)

    async def hash(self, password: str) -> str:
        """A hash to store.

        Raises:
            InvalidInput: the password won't do.
            LimitReached: too many wait already.
        """
        check_password(password)
        return await self._in_turn(lambda: self._hasher.hash(password))

    async def rehash(self, hashed: str, password: str) -> str | None:
        """The hash to store instead of one that was made with other parameters; None if there is no need."""
        if not self._hasher.check_needs_rehash(hashed):
            return None
        return await self._in_turn(lambda: self._hasher.hash(password))

    def close(self) -> None:
        """Hash no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _verify(self, hashed: str, password: str) -> bool:
        with suppress(VerificationError, InvalidHashError):
            return self._hasher.verify(hashed, password)
        return False

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise LimitReached(
                "Too many people sign in at this moment; try again in some seconds.",
                code="too-many-sign-ins",
                limit_name="waitingSignIns",
                limit=MAX_WAITING,
                current=self._waiting,
                retry_after_s=RETRY_AFTER_S,
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1


def check_password(password: str) -> None:
    """Refuse what is no password.

    Raises:
        InvalidInput: it is too short or too long.
    """
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise InvalidInput(f"A password has {MIN_CHARS} to {MAX_CHARS} characters.", code="invalid-password")


def open_passwords() -> Passwords:
    """Passwords with argon2id at the library's own cost, in one lane: hashing must not take all cores."""
    return Passwords(PasswordHasher(parallelism=1))


def _after_all_others() -> None:
    if sys.platform == "linux":  # where a thread has a niceness of its own
        with suppress(OSError):
            os.nice(_NICE)

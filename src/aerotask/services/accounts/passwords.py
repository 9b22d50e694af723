"""Password hashing with argon2id, one at a time on a low-priority thread."""

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
# Queue length for the one thread: a few seconds of hashing, beyond which clients time out anyway.
MAX_WAITING = 32
RETRY_AFTER_S = 5
_NICE = 10

T = TypeVar("T")


class Hasher(Protocol):
    """The interface of argon2's `PasswordHasher` that is used here."""

    def hash(self, password: str, /) -> str:
        """A new hash of the password."""
        ...

    def verify(self, hashed: str, password: str, /) -> bool:
        """True if it is the password's hash; raises otherwise."""
        ...

    def check_needs_rehash(self, hashed: str, /) -> bool:
        """True if the hash was made with other parameters."""
        ...


class Passwords:
    """Hashes and verifies passwords on one low-priority thread, so that a storm of sign-ins slows down nothing else."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords", initializer=_lower_priority)
        self._waiting = 0
        # Verified for users without a password, so that the response takes the same time.
        self._decoy = hasher.hash(secrets.token_hex(16))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """True if the password matches the hash; without a hash False, after the same work.

        Raises:
            LimitReached: too many sign-ins are waiting.
        """
        compared = hashed or self._decoy
        matches = await self._run(lambda: self._verify(compared, password[:MAX_CHARS]))
        return matches and bool(hashed)

    async def hash(self, password: str) -> str:
        """The hash to store for a password.

        Raises:
            InvalidInput: the password is too short or too long.
            LimitReached: too many sign-ins are waiting.
        """
        check_password(password)
        return await self._run(lambda: self._hasher.hash(password))

    async def rehash(self, hashed: str, password: str) -> str | None:
        """A new hash if the stored one was made with other parameters; None if it is up to date."""
        if not self._hasher.check_needs_rehash(hashed):
            return None
        return await self._run(lambda: self._hasher.hash(password))

    def close(self) -> None:
        """Cancels waiting hashes and accepts no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _verify(self, hashed: str, password: str) -> bool:
        with suppress(VerificationError, InvalidHashError):
            return self._hasher.verify(hashed, password)
        return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise LimitReached(
                "Too many sign-ins at the moment; try again in a few seconds.",
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
    """Raises if the password's length is not allowed.

    Raises:
        InvalidInput: it is too short or too long.
    """
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise InvalidInput(
            f"A password must have {MIN_CHARS} to {MAX_CHARS} characters.", code="invalid-password"
        )


def open_passwords() -> Passwords:
    """Argon2id at the library's default cost, with parallelism 1: hashing must not take all cores."""
    return Passwords(PasswordHasher(parallelism=1))


def _lower_priority() -> None:
    if sys.platform == "linux":  # where niceness is per thread
        with suppress(OSError):
            os.nice(_NICE)

"""Lookup of users by name for callers who may not list them, with a limit on names that don't exist."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.engine import Database
from aerotask.domain.access import Caller
from aerotask.domain.errors import InvalidInput, LimitReached
from aerotask.domain.ids import UserId
from aerotask.domain.paths import shown
from aerotask.services.accounts.permissions import require_user
from aerotask.store.accounts import login_attempts, users
from aerotask.store.accounts.users import UserRow

MAX_UNKNOWN_NAMES = 10
"""Unknown names that one caller may give per window; after them, names that exist are refused as well."""
WINDOW_S = 3600


@dataclass(frozen=True, slots=True)
class UserLookup:
    """Finds the users that callers name as members or owners of their organizations."""

    db: Database

    async def find(self, caller: Caller, user_name: str, *, active: bool = False) -> UserRow:
        """The user of that name; with `active`, a deactivated one counts as unknown.

        Raises:
            InvalidInput: there is none (`no-such-user`).
            LimitReached: the caller has named too many unknown users (`too-many-unknown-users`).
        """
        caller_id = require_user(caller)
        async with self.db.begin() as connection:
            if not caller.is_admin:
                # One lookup at a time: otherwise concurrent ones could exceed the limit.
                await users.lock(connection, caller_id)
                await _raise_if_exhausted(connection, _bucket(caller_id))
            user = await users.find_by_name(connection, user_name)
            if user is not None and active and user.is_deactivated:
                user = None
            if user is None and not caller.is_admin:
                await login_attempts.increment(connection, _bucket(caller_id), window_s=WINDOW_S)
        if user is None:  # raised after the commit, so that the attempt counts
            raise no_such_user(user_name)
        return user


def no_such_user(user_name: str) -> InvalidInput:
    """The error for an unknown name."""
    return InvalidInput(f"There is no user {shown(user_name)}.", code="no-such-user")


def _bucket(caller_id: UserId) -> str:
    return f"unknown-users:{caller_id}"


async def _raise_if_exhausted(connection: AsyncConnection, bucket: str) -> None:
    for attempts in await login_attempts.find_active(connection, [bucket]):
        if attempts.failures >= MAX_UNKNOWN_NAMES:
            raise LimitReached(
                "You have named too many users who don't exist; wait, and ask an administrator for the right names.",
                code="too-many-unknown-users",
                limit_name="unknownUserNames",
                limit=MAX_UNKNOWN_NAMES,
                current=attempts.failures,
                retry_after_s=attempts.left_s,
            )

"""Names of users can't be tried out by adding members or giving organizations away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from tests.support.rows import add_dataset, add_user

from aerotask.domain.access import Caller, Membership
from aerotask.domain.errors import InvalidInput, LimitReached
from aerotask.services.accounts.user_lookup import MAX_UNKNOWN_NAMES
from aerotask.wiring import Platform


@dataclass(frozen=True)
class Acme:
    """An organization, its owner, and what they are told about names."""

    platform: Platform
    owner: Caller

    async def add(self, name: str, *, caller: Caller | None = None) -> str:
        """The error code of adding a member; empty if they were added."""
        try:
            await self.platform.orgs.set_member(
                caller or self.owner, "acme", user_name=name, permissions=Membership.READ_ONLY
            )
        except (InvalidInput, LimitReached) as error:
            return error.code
        return ""

    async def give_to(self, name: str) -> str:
        """The error code of giving the organization away."""
        try:
            await self.platform.orgs.update_org(
                self.owner, "acme", name="", description="", is_public=False, owner=name
            )
        except (InvalidInput, LimitReached) as error:
            return error.code
        return ""

    async def members(self) -> list[str]:
        return [row.user_name for row in await self.platform.orgs.list_members(self.owner, "acme")]


@pytest.fixture
async def acme(platform: Platform) -> Acme:
    owner = await add_user(platform.db, "owner")
    await add_dataset(platform.db, owner, "acme")
    await add_user(platform.db, "known")
    return Acme(platform, Caller(owner, "owner"))


async def test_after_ten_unknown_names_all_names_are_answered_alike(acme: Acme) -> None:
    tried = [await acme.add(f"guess-{number}") for number in range(8)]
    tried += [await acme.give_to("guess-8"), await acme.give_to("guess-9")]
    assert tried == ["no-such-user"] * MAX_UNKNOWN_NAMES
    told = [await acme.add("guess-10"), await acme.add("known"), await acme.give_to("known")]
    assert told == ["too-many-unknown-users"] * 3
    assert await acme.members() == []


async def test_names_tried_at_the_same_time_count_as_well(acme: Acme) -> None:
    told = await asyncio.gather(*(acme.add(f"guess-{number}") for number in range(40)))
    assert sorted(told) == ["no-such-user"] * 10 + ["too-many-unknown-users"] * 30


async def test_known_names_cost_nothing_and_the_limit_ends_with_its_window(acme: Acme) -> None:
    assert [await acme.add("known") for _ in range(20)] == [""] * 20
    for number in range(MAX_UNKNOWN_NAMES):
        await acme.add(f"guess-{number}")
    assert await acme.add("known") == "too-many-unknown-users"
    async with acme.platform.db.begin() as connection:
        await connection.execute(text("UPDATE sign_in_attempts SET window_ends_at = now()"))
    assert await acme.add("known") == ""
    assert await acme.members() == ["known"]


async def test_others_and_administrators_are_not_limited_by_it(acme: Acme) -> None:
    for number in range(MAX_UNKNOWN_NAMES):
        await acme.add(f"guess-{number}")
    administrator = Caller(await add_user(acme.platform.db, "root"), "root", is_admin=True)
    assert [await acme.add("nobody", caller=administrator) for _ in range(20)] == ["no-such-user"] * 20
    assert await acme.add("known", caller=administrator) == ""


async def test_a_deactivated_user_is_no_owner_and_looks_like_an_unknown_one(acme: Acme) -> None:
    async with acme.platform.db.begin() as connection:
        await connection.execute(text("UPDATE users SET is_deactivated = true WHERE user_name = 'known'"))
    assert [await acme.give_to("known") for _ in range(11)] == ["no-such-user"] * 10 + [
        "too-many-unknown-users"
    ]

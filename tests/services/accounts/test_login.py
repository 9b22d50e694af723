"""Signing in: constant work for unknown names, limits that hold across processes, sessions that end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import event, select, text, update
from tests.support.rows import add_user

from aerotask.db.engine import Database
from aerotask.db.models import AuditEvent, LoginAttempts, User
from aerotask.domain.access import Caller, Credential
from aerotask.domain.errors import LimitReached, Unauthenticated
from aerotask.domain.settings import LoginLimits, TokenLifetimes
from aerotask.services.accounts.login import LoginService
from aerotask.services.accounts.login_throttle import LoginThrottle
from aerotask.services.accounts.passwords import MAX_WAITING, Passwords
from aerotask.services.accounts.tokens import Tokens
from aerotask.services.accounts.users import UserService
from aerotask.store.accounts import login_attempts, users

PASSWORD = "a long enough password"
HERE = Caller(None, None, address="192.0.2.1")


@dataclass
class CountingHasher:
    """The real hasher, cheap, and how often it is asked what."""

    real: PasswordHasher = field(default_factory=lambda: PasswordHasher(1, 64, 1))
    calls: list[str] = field(default_factory=list)
    gate: Event = field(default_factory=Event)
    """Closed, verifying waits for it."""

    def __post_init__(self) -> None:
        self.gate.set()

    def hash(self, password: str) -> str:
        self.calls.append("hash")
        return self.real.hash(password)

    def verify(self, hashed: str, password: str) -> bool:
        self.calls.append("verify")
        self.gate.wait(60)
        return self.real.verify(hashed, password)

    def check_needs_rehash(self, hashed: str) -> bool:
        return self.real.check_needs_rehash(hashed)


@dataclass
class Door:
    """A sign-in over a database, and what its hasher counts."""

    service: LoginService
    accounts: UserService
    hasher: CountingHasher

    async def works(self, user_name: str, password: str, caller: Caller = HERE) -> bool:
        try:
            await self.service.sign_in(caller, user_name, password)
        except Unauthenticated:
            return False
        return True


@contextmanager
def door(database: Database, *, per_account: int = 1000, per_address: int = 1000) -> Iterator[Door]:
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    tokens = Tokens("a key for the tests, long enough to be one", TokenLifetimes(3600, 24 * 3600))
    limits = LoginThrottle(database, LoginLimits(300, per_account, per_address), held_s=0)
    try:
        yield Door(
            LoginService(database, tokens, passwords, limits),
            UserService(database, passwords, None),
            hasher,
        )
    finally:
        passwords.close()


async def known(at: Door) -> None:
    await at.accounts.ensure_first_admin(PASSWORD)
    at.hasher.calls.clear()


async def test_unknown_and_known_names_cost_the_same_hasher_calls(database: Database) -> None:
    with door(database) as at:
        await known(at)
        await add_user(database, "without-password")
        counted = []
        for name in ("admin", "nobody-here", "without-password", "", "x" * 1000):
            at.hasher.calls.clear()
            assert not await at.works(name, "wrong")
            counted.append(list(at.hasher.calls))
    assert counted == [["verify"]] * 5


async def test_a_deactivated_user_costs_the_same_and_is_told_the_same(database: Database) -> None:
    with door(database) as at:
        await known(at)
        async with database.begin() as connection:
            user = await users.find_by_name(connection, "admin")
            assert user is not None
            await users.set_roles(connection, user.id, is_admin=True, is_deactivated=True)
        assert not await at.works("admin", PASSWORD)
        assert at.hasher.calls == ["verify"]


async def test_nobody_without_a_password_gets_in_with_the_decoys(database: Database) -> None:
    with door(database) as at:
        await add_user(database, "without-password")
        assert not await at.works("without-password", "")
        assert not await at.works("nobody-here", "")


async def test_a_hash_of_older_parameters_is_renewed_at_the_next_sign_in(database: Database) -> None:
    with door(database) as at:
        await known(at)
        old = PasswordHasher(1, 128, 1).hash(PASSWORD)
        async with database.begin() as connection:
            await connection.execute(update(User).values(password_hash=old))
        assert await at.works("admin", PASSWORD)
        async with database.read() as connection:
            renewed = (await connection.execute(select(User.password_hash))).scalar_one()
        assert renewed != old
        assert await at.works("admin", PASSWORD)


async def refusal(at: Door, user_name: str, password: str = "wrong", caller: Caller = HERE) -> LimitReached:
    with pytest.raises(LimitReached) as raised:
        await at.service.sign_in(caller, user_name, password)
    return raised.value


async def test_an_account_that_fails_too_often_waits_even_with_the_right_password(database: Database) -> None:
    with door(database, per_account=3) as at:
        await known(at)
        for _ in range(3):
            assert not await at.works("admin", "wrong")
        at.hasher.calls.clear()
        refused = await refusal(at, "admin", PASSWORD)
        assert (refused.limit_name, refused.limit, refused.code) == (
            "failedSignInsPerAccount",
            3,
            "too-many-sign-ins",
        )
        assert 0 < refused.retry_after_s <= 300
        assert at.hasher.calls == []
        assert not await at.works("somebody-else", "wrong")


async def test_an_address_that_fails_too_often_waits_and_others_do_not(database: Database) -> None:
    with door(database, per_address=3) as at:
        await known(at)
        for number in range(3):
            assert not await at.works(f"guess-{number}", "wrong")
        assert (await refusal(at, "guess-4")).limit_name == "failedSignInsPerAddress"
        assert await at.works("admin", PASSWORD, Caller(None, None, address="192.0.2.2"))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        (None, "not an address", True),
    ],
)
async def test_a_whole_network_of_ipv6_counts_as_one_address(
    database: Database, first: str | None, second: str, *, same: bool
) -> None:
    with door(database, per_address=1) as at:
        assert not await at.works("guess", "wrong", Caller(None, None, address=first))
        other = Caller(None, None, address=second)
        if same:
            await refusal(at, "guess-2", caller=other)
        else:
            assert not await at.works("guess-2", "wrong", other)


async def test_unknown_names_are_limited_as_known_ones_are(database: Database) -> None:
    with door(database, per_account=2) as at:
        await known(at)
        for name in ("admin", "nobody-here"):
            for _ in range(2):
                assert not await at.works(name, "wrong")
            assert (await refusal(at, name)).current == 2


async def test_the_limit_holds_across_processes(database: Database) -> None:
    with door(database, per_account=3) as one, door(database, per_account=3) as other:
        await known(one)
        for at in (one, other, one):
            assert not await at.works("admin", "wrong")
        await refusal(other, "admin", PASSWORD)
        await refusal(one, "admin", PASSWORD)


async def test_many_who_succeed_and_fail_at_once_do_not_block_each_other(database: Database) -> None:
    with door(database) as at:
        await known(at)
        tries = [at.works("admin", PASSWORD if number % 2 else "wrong") for number in range(40)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert ended.count(True) >= 1
        assert {type(outcome) for outcome in ended} <= {bool, LimitReached}


async def test_many_at_once_do_not_get_past_the_limit_together(database: Database) -> None:
    with door(database, per_account=5) as at:
        await known(at)
        tries = [at.service.sign_in(HERE, "admin", "wrong") for _ in range(30)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(error, Unauthenticated) for error in ended) == 5
        assert sum(isinstance(error, LimitReached) for error in ended) == 25
        assert at.hasher.calls == ["verify"] * 5


async def test_success_wipes_the_slate_and_the_windows_end_too(database: Database) -> None:
    with door(database, per_account=3) as at:
        await known(at)
        for _ in range(2):
            for _ in range(2):
                assert not await at.works("admin", "wrong")
            assert await at.works("admin", PASSWORD)
        for _ in range(3):
            assert not await at.works("admin", "wrong")
    async with database.begin() as connection:
        await connection.execute(update(LoginAttempts).values(window_ends_at=text("now() - interval '1 s'")))
        assert await login_attempts.remove_over(connection, at_most=1) == 1
    with door(database, per_account=3) as at:
        assert await at.works("admin", PASSWORD)


async def test_what_was_typed_as_a_name_is_not_kept(database: Database) -> None:
    with door(database, per_account=1) as at:
        await known(at)
        assert not await at.works("my secret password", "wrong")
        await refusal(at, "my secret password")
        async with database.read() as connection:
            kept = await connection.execute(text("SELECT a::text FROM audit_events a"))
            kept_too = await connection.execute(text("SELECT s::text FROM sign_in_attempts s"))
            assert not [row for row in [*kept.scalars(), *kept_too.scalars()] if "secret" in row]


async def test_sign_ins_are_in_the_audit_log(database: Database) -> None:
    with door(database, per_account=2) as at:
        await known(at)
        assert await at.works("admin", PASSWORD)
        assert not await at.works("admin", "wrong")
        assert not await at.works("admin", "wrong")
        await refusal(at, "admin")
    async with database.read() as connection:
        columns = (AuditEvent.actor, AuditEvent.address, AuditEvent.action)
        rows = await connection.execute(select(*columns).order_by(AuditEvent.id))
        assert [tuple(row) for row in rows] == [
            ("anonymous", None, "user-created"),
            ("admin", "192.0.2.1", "signed-in"),
            ("anonymous", "192.0.2.1", "sign-in-failed"),
            ("anonymous", "192.0.2.1", "sign-in-failed"),
            ("anonymous", "192.0.2.1", "sign-ins-limited"),
        ]


async def test_two_changes_of_one_password_at_once_are_one(database: Database) -> None:
    with door(database) as at:
        await known(at)
        async with database.read() as connection:
            user = await users.find_by_name(connection, "admin")
        assert user is not None
        caller = Caller(user.id, "admin", credential=Credential.TOKEN, address="192.0.2.1")
        changes = [
            at.service.change_password(caller, old=PASSWORD, new=f"new password {number}")
            for number in range(2)
        ]
        ended = await asyncio.gather(*changes, return_exceptions=True)
        assert sum(isinstance(error, Unauthenticated) for error in ended) == 1
        worked = [await at.works("admin", f"new password {number}") for number in range(2)]
        assert sorted(worked) == [False, True]


@contextmanager
def counting(database: Database) -> Iterator[list[str]]:
    """The statements that the database is asked meanwhile."""
    asked: list[str] = []

    def note(*told: Any) -> None:
        asked.append(told[2])

    engines = [database.engine.sync_engine, database.reader.sync_engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


async def test_unknown_and_known_names_cost_the_same_statements(database: Database) -> None:
    with door(database) as at:
        await known(at)
        await add_user(database, "without-password")
        counted = []
        for name in ("admin", "nobody-here", "without-password"):
            assert not await at.works(name, "wrong")  # connections and buckets are there from now on
            with counting(database) as asked:
                assert not await at.works(name, "wrong")
            counted.append([statement.split()[:2] for statement in asked])
    assert counted[0] == counted[1] == counted[2]
    assert len(counted[0]) == 5


async def test_a_name_is_counted_as_it_is_looked_up(database: Database) -> None:
    with door(database, per_account=2) as at:
        await known(at)
        await add_user(database, "n" * 128)
        for _ in range(2):
            assert not await at.works("n" * 128, "wrong")
        at.hasher.calls.clear()
        await refusal(at, "n" * 128)
        assert not await at.works("n" * 128 + "1", "wrong")  # nobody's
    async with database.read() as connection:
        targets = await connection.execute(
            select(AuditEvent.target).where(AuditEvent.action == "sign-in-failed")
        )
    assert sorted(targets.scalars()) == ["(no such user)", "n" * 128, "n" * 128]


async def test_a_try_that_is_not_judged_for_want_of_a_turn_is_not_counted(database: Database) -> None:
    with door(database, per_account=3) as at:
        await known(at)
        at.hasher.gate.clear()
        queue = [asyncio.create_task(at.service.passwords.fits(None, "x")) for _ in range(MAX_WAITING)]
        try:
            for _ in range(4):
                assert (await refusal(at, "admin", PASSWORD)).limit_name == "waitingSignIns"
        finally:
            at.hasher.gate.set()
            await asyncio.gather(*queue)
        async with database.read() as connection:
            kept = (await connection.execute(select(LoginAttempts.failures))).scalars().all()
        assert list(kept) == [0, 0]
        assert await at.works("admin", PASSWORD)


async def test_more_than_can_wait_are_told_to_come_back(database: Database) -> None:
    with door(database) as at:
        tries = [at.service.passwords.fits(None, "x") for _ in range(100)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(error, LimitReached) for error in ended) == 100 - 32

"""Login: constant work for unknown names, limits across processes, the end of sessions."""

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
    """The real hasher with cheap parameters, which records its calls."""

    real: PasswordHasher = field(default_factory=lambda: PasswordHasher(1, 64, 1))
    calls: list[str] = field(default_factory=list)
    gate: Event = field(default_factory=Event)
    """Verifying waits while this is cleared."""

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
class LoginSetup:
    """A login service on a database, with a counting hasher."""

    service: LoginService
    accounts: UserService
    hasher: CountingHasher

    async def succeeds(self, user_name: str, password: str, caller: Caller = HERE) -> bool:
        try:
            await self.service.sign_in(caller, user_name, password)
        except Unauthenticated:
            return False
        return True


@contextmanager
def login_setup(
    database: Database, *, per_account: int = 1000, per_address: int = 1000
) -> Iterator[LoginSetup]:
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    tokens = Tokens("a key for the tests, long enough to be one", TokenLifetimes(3600, 24 * 3600))
    limits = LoginThrottle(database, LoginLimits(300, per_account, per_address), delay_s=0)
    try:
        yield LoginSetup(
            LoginService(database, tokens, passwords, limits),
            UserService(database, passwords, None),
            hasher,
        )
    finally:
        passwords.close()


async def add_admin(login: LoginSetup) -> None:
    await login.accounts.ensure_first_admin(PASSWORD)
    login.hasher.calls.clear()


async def test_unknown_and_known_names_cost_the_same_hasher_calls(database: Database) -> None:
    with login_setup(database) as login:
        await add_admin(login)
        await add_user(database, "without-password")
        counted = []
        for name in ("admin", "nobody-here", "without-password", "", "x" * 1000):
            login.hasher.calls.clear()
            assert not await login.succeeds(name, "wrong")
            counted.append(list(login.hasher.calls))
    assert counted == [["verify"]] * 5


async def test_a_deactivated_user_costs_the_same_and_gets_the_same_error(database: Database) -> None:
    with login_setup(database) as login:
        await add_admin(login)
        async with database.begin() as connection:
            user = await users.find_by_name(connection, "admin")
            assert user is not None
            await users.set_roles(connection, user.id, is_admin=True, is_deactivated=True)
        assert not await login.succeeds("admin", PASSWORD)
        assert login.hasher.calls == ["verify"]


async def test_users_without_a_password_cannot_sign_in(database: Database) -> None:
    with login_setup(database) as login:
        await add_user(database, "without-password")
        assert not await login.succeeds("without-password", "")
        assert not await login.succeeds("nobody-here", "")


async def test_a_hash_with_older_parameters_is_replaced_at_the_next_sign_in(database: Database) -> None:
    with login_setup(database) as login:
        await add_admin(login)
        old = PasswordHasher(1, 128, 1).hash(PASSWORD)
        async with database.begin() as connection:
            await connection.execute(update(User).values(password_hash=old))
        assert await login.succeeds("admin", PASSWORD)
        async with database.read() as connection:
            replaced = (await connection.execute(select(User.password_hash))).scalar_one()
        assert replaced != old
        assert await login.succeeds("admin", PASSWORD)


async def refusal(
    login: LoginSetup, user_name: str, password: str = "wrong", caller: Caller = HERE
) -> LimitReached:
    with pytest.raises(LimitReached) as raised:
        await login.service.sign_in(caller, user_name, password)
    return raised.value


async def test_an_account_beyond_its_limit_is_refused_even_with_the_right_password(
    database: Database,
) -> None:
    with login_setup(database, per_account=3) as login:
        await add_admin(login)
        for _ in range(3):
            assert not await login.succeeds("admin", "wrong")
        login.hasher.calls.clear()
        refused = await refusal(login, "admin", PASSWORD)
        assert (refused.limit_name, refused.limit, refused.code) == (
            "failedSignInsPerAccount",
            3,
            "too-many-sign-ins",
        )
        assert 0 < refused.retry_after_s <= 300
        assert login.hasher.calls == []
        assert not await login.succeeds("somebody-else", "wrong")


async def test_an_address_beyond_its_limit_is_refused_and_others_are_not(database: Database) -> None:
    with login_setup(database, per_address=3) as login:
        await add_admin(login)
        for number in range(3):
            assert not await login.succeeds(f"guess-{number}", "wrong")
        assert (await refusal(login, "guess-4")).limit_name == "failedSignInsPerAddress"
        assert await login.succeeds("admin", PASSWORD, Caller(None, None, address="192.0.2.2"))


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
async def test_an_ipv6_network_counts_as_one_address(
    database: Database, first: str | None, second: str, *, same: bool
) -> None:
    with login_setup(database, per_address=1) as login:
        assert not await login.succeeds("guess", "wrong", Caller(None, None, address=first))
        other = Caller(None, None, address=second)
        if same:
            await refusal(login, "guess-2", caller=other)
        else:
            assert not await login.succeeds("guess-2", "wrong", other)


async def test_unknown_names_are_limited_like_known_ones(database: Database) -> None:
    with login_setup(database, per_account=2) as login:
        await add_admin(login)
        for name in ("admin", "nobody-here"):
            for _ in range(2):
                assert not await login.succeeds(name, "wrong")
            assert (await refusal(login, name)).current == 2


async def test_the_limit_holds_across_processes(database: Database) -> None:
    with login_setup(database, per_account=3) as one, login_setup(database, per_account=3) as other:
        await add_admin(one)
        for login in (one, other, one):
            assert not await login.succeeds("admin", "wrong")
        await refusal(other, "admin", PASSWORD)
        await refusal(one, "admin", PASSWORD)


async def test_concurrent_successes_and_failures_do_not_deadlock(database: Database) -> None:
    with login_setup(database) as login:
        await add_admin(login)
        tries = [login.succeeds("admin", PASSWORD if number % 2 else "wrong") for number in range(40)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert ended.count(True) >= 1
        assert {type(outcome) for outcome in ended} <= {bool, LimitReached}


async def test_concurrent_attempts_do_not_exceed_the_limit(database: Database) -> None:
    with login_setup(database, per_account=5) as login:
        await add_admin(login)
        tries = [login.service.sign_in(HERE, "admin", "wrong") for _ in range(30)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(error, Unauthenticated) for error in ended) == 5
        assert sum(isinstance(error, LimitReached) for error in ended) == 25
        assert login.hasher.calls == ["verify"] * 5


async def test_success_clears_the_failures_and_windows_end(database: Database) -> None:
    with login_setup(database, per_account=3) as login:
        await add_admin(login)
        for _ in range(2):
            for _ in range(2):
                assert not await login.succeeds("admin", "wrong")
            assert await login.succeeds("admin", PASSWORD)
        for _ in range(3):
            assert not await login.succeeds("admin", "wrong")
    async with database.begin() as connection:
        await connection.execute(update(LoginAttempts).values(window_ends_at=text("now() - interval '1 s'")))
        assert await login_attempts.remove_expired(connection, max_count=1) == 1
    with login_setup(database, per_account=3) as login:
        assert await login.succeeds("admin", PASSWORD)


async def test_an_unknown_user_name_is_not_stored(database: Database) -> None:
    with login_setup(database, per_account=1) as login:
        await add_admin(login)
        assert not await login.succeeds("my secret password", "wrong")
        await refusal(login, "my secret password")
        async with database.read() as connection:
            kept = await connection.execute(text("SELECT a::text FROM audit_events a"))
            kept_too = await connection.execute(text("SELECT s::text FROM sign_in_attempts s"))
            assert not [row for row in [*kept.scalars(), *kept_too.scalars()] if "secret" in row]


async def test_sign_ins_are_in_the_audit_log(database: Database) -> None:
    with login_setup(database, per_account=2) as login:
        await add_admin(login)
        assert await login.succeeds("admin", PASSWORD)
        assert not await login.succeeds("admin", "wrong")
        assert not await login.succeeds("admin", "wrong")
        await refusal(login, "admin")
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


async def test_of_two_concurrent_password_changes_one_succeeds(database: Database) -> None:
    with login_setup(database) as login:
        await add_admin(login)
        async with database.read() as connection:
            user = await users.find_by_name(connection, "admin")
        assert user is not None
        caller = Caller(user.id, "admin", credential=Credential.TOKEN, address="192.0.2.1")
        changes = [
            login.service.change_password(caller, old=PASSWORD, new=f"new password {number}")
            for number in range(2)
        ]
        ended = await asyncio.gather(*changes, return_exceptions=True)
        assert sum(isinstance(error, Unauthenticated) for error in ended) == 1
        worked = [await login.succeeds("admin", f"new password {number}") for number in range(2)]
        assert sorted(worked) == [False, True]


@contextmanager
def counting(database: Database) -> Iterator[list[str]]:
    """The statements that the database executes in the block."""
    statements: list[str] = []

    def record(*args: Any) -> None:
        statements.append(args[2])

    engines = [database.engine.sync_engine, database.reader.sync_engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", record)


async def test_unknown_and_known_names_cost_the_same_statements(database: Database) -> None:
    with login_setup(database) as login:
        await add_admin(login)
        await add_user(database, "without-password")
        counted = []
        for name in ("admin", "nobody-here", "without-password"):
            assert not await login.succeeds(name, "wrong")  # opens connections and creates buckets
            with counting(database) as statements:
                assert not await login.succeeds(name, "wrong")
            counted.append([statement.split()[:2] for statement in statements])
    assert counted[0] == counted[1] == counted[2]
    assert len(counted[0]) == 5


async def test_a_name_is_throttled_in_full_length(database: Database) -> None:
    with login_setup(database, per_account=2) as login:
        await add_admin(login)
        await add_user(database, "n" * 128)
        for _ in range(2):
            assert not await login.succeeds("n" * 128, "wrong")
        login.hasher.calls.clear()
        await refusal(login, "n" * 128)
        assert not await login.succeeds("n" * 128 + "1", "wrong")  # no such user
    async with database.read() as connection:
        targets = await connection.execute(
            select(AuditEvent.target).where(AuditEvent.action == "sign-in-failed")
        )
    assert sorted(targets.scalars()) == ["(no such user)", "n" * 128, "n" * 128]


async def test_an_attempt_refused_by_a_full_queue_is_not_counted(database: Database) -> None:
    with login_setup(database, per_account=3) as login:
        await add_admin(login)
        login.hasher.gate.clear()
        queue = [asyncio.create_task(login.service.passwords.verify(None, "x")) for _ in range(MAX_WAITING)]
        try:
            for _ in range(4):
                assert (await refusal(login, "admin", PASSWORD)).limit_name == "waitingSignIns"
        finally:
            login.hasher.gate.set()
            await asyncio.gather(*queue)
        async with database.read() as connection:
            kept = (await connection.execute(select(LoginAttempts.failures))).scalars().all()
        assert list(kept) == [0, 0]
        assert await login.succeeds("admin", PASSWORD)


async def test_attempts_beyond_the_queue_are_refused(database: Database) -> None:
    with login_setup(database) as login:
        tries = [login.service.passwords.verify(None, "x") for _ in range(100)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(error, LimitReached) for error in ended) == 100 - 32

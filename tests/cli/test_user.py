"""`aerotask user` on a database, and on the data folder of a stopped stack."""

import asyncio
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aerotask.cli.app import app
from aerotask.db.engine import Database, open_database
from aerotask.domain.errors import AerotaskError
from aerotask.services.accounts.passwords import open_passwords
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import running_postgres
from aerotask.store.accounts import users


@pytest.fixture
def server(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment names a database of its own."""
    monkeypatch.setenv("AEROTASK_DATABASE_URL", database_url)
    return database_url


def user(*arguments: str, typed: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["user", *arguments], input=typed)
    if result.exception is not None:
        raise result.exception
    return result


def printed_password(result: Result) -> str:
    found = re.search(r"The password is (\S+)", result.stdout)
    assert found is not None
    return found[1]


async def stored(database_url: str, name: str) -> tuple[users.UserRow, str]:
    """The user of that name with the password's hash."""
    database: Database = open_database(database_url, application="tests", pool_size=1)
    async with database.read() as connection:
        found = await users.find_with_password_hash(connection, name)
    await database.close()
    assert found is not None
    return found


def has_password(database_url: str, name: str, password: str) -> bool:
    async def check() -> bool:
        _, hashed = await stored(database_url, name)
        passwords = open_passwords()
        try:
            return await passwords.verify(hashed, password)
        finally:
            passwords.close()

    return asyncio.run(check())


def test_users_are_added_listed_and_deactivated(server: str) -> None:
    password = printed_password(user("add", "ann", "--admin", "--email", "ann@example.org"))
    assert has_password(server, "ann", password)
    user("add", "bob", "--password-stdin", typed="a long enough password\n")
    assert has_password(server, "bob", "a long enough password")

    listed = user("list").stdout
    assert re.search(r"ann .*admin .*ann@example\.org", listed)
    assert re.search(r"bob ", listed)

    assert "no active administrator" in user("deactivate", "ann").stderr
    ann, _ = asyncio.run(stored(server, "ann"))
    assert (ann.is_admin, ann.is_deactivated) == (True, True)
    assert re.search(r"ann .*admin, deactivated", user("list").stdout)


def test_a_new_password_ends_sessions_and_keeps_the_roles(server: str) -> None:
    old = printed_password(user("add", "ann", "--admin"))
    before, _ = asyncio.run(stored(server, "ann"))

    new = printed_password(user("reset-password", "ann"))

    after, _ = asyncio.run(stored(server, "ann"))
    assert after.token_epoch == before.token_epoch + 1
    assert (after.is_admin, after.is_deactivated) == (True, False)
    assert not has_password(server, "ann", old)
    assert has_password(server, "ann", new)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reset-password", "ann"), "There is no user 'ann'"),
        (("deactivate", "ann"), "There is no user 'ann'"),
        (("add", "not a name"), "A user name must have"),
        (("list", "--data", "/nowhere"), "/nowhere holds no database of `aerotask up`"),
    ],
)
def test_what_is_wrong_is_said(server: str, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(AerotaskError, match=message):
        user(*arguments)


def test_without_a_database_both_ways_to_name_one_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEROTASK_DATABASE_URL", raising=False)
    with pytest.raises(AerotaskError, match="with --data, or set AEROTASK_DATABASE_URL"):
        user("list")


def test_the_database_of_a_stopped_stack_is_started_for_the_command(stopped_stack: Path) -> None:
    password = printed_password(user("add", "ann", "--data", str(stopped_stack)))
    assert "ann" in user("list", "--data", str(stopped_stack)).stdout
    with OwnedFolder(stopped_stack) as folder, running_postgres(folder) as postgres:
        assert has_password(postgres.url, "ann", password)

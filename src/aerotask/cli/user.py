"""Commands for users: they work on the database itself and need no password."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from aerotask.cli.console import err, out
from aerotask.domain.access import OPERATOR
from aerotask.domain.connection_urls import check_database_url
from aerotask.domain.errors import InvalidInput, NotFound
from aerotask.services.accounts.users import UserChange, UserService, generate_password
from aerotask.store.accounts.users import UserRow

app = typer.Typer(
    help="Manage users in the database of AEROTASK_DATABASE_URL, or of a data folder of `aerotask up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

T = TypeVar("T")
_Data = Annotated[
    Path | None,
    typer.Option(help="The data folder of `aerotask up`, running or not, instead of AEROTASK_DATABASE_URL."),
]
_Name = Annotated[str, typer.Argument(help="The user's name.")]
_FromStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input instead of generating one."),
]


@app.command("list")
def list_users(*, data: _Data = None) -> None:
    """List all users with their roles."""
    table = Table("name", "roles", "e-mail", "created")
    for user in _run(data, lambda users: users.list_users(OPERATOR)):
        table.add_row(user.user_name, _roles(user), user.email or "", f"{user.created_at:%Y-%m-%d}")
    out.print(table)


@app.command()
def add(
    name: _Name,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Make the user a system administrator.")] = False,
    email: Annotated[str | None, typer.Option(help="The user's e-mail address.")] = None,
    password_stdin: _FromStdin = False,
    data: _Data = None,
) -> None:
    """Add a user, and print the generated password."""
    password = _password(from_stdin=password_stdin)
    _run(
        data,
        lambda users: users.create_user(
            OPERATOR, user_name=name, password=password, email=email, is_admin=admin
        ),
    )
    _tell(name, "has been added", password, from_stdin=password_stdin)


@app.command()
def reset_password(name: _Name, *, password_stdin: _FromStdin = False, data: _Data = None) -> None:
    """Give a user a new password, which ends the user's sessions, and print it."""
    password = _password(from_stdin=password_stdin)
    user = _run(data, lambda users: _change(users, name, password=password))
    if data is not None:
        _replace_first_password(data, name, password)
    _tell(name, "has a new password", password, from_stdin=password_stdin)
    if user.is_deactivated:
        err.print("The user is deactivated, and can't sign in until an administrator changes that.")


@app.command()
def deactivate(name: _Name, *, data: _Data = None) -> None:
    """Deactivate a user: sessions end, API keys are removed."""
    left = _run(data, lambda users: _deactivate(users, name))
    out.print(f"{name} has been deactivated.", markup=False, highlight=False)
    if not left:
        err.print("There is no active administrator now; add one with: aerotask user add NAME --admin")


async def _change(
    users: UserService, name: str, *, password: str | None = None, is_deactivated: bool | None = None
) -> UserRow:
    user = next((user for user in await users.list_users(OPERATOR) if user.user_name == name), None)
    if user is None:
        raise NotFound(f"There is no user '{name}'; `aerotask user list` shows all.")
    deactivated = user.is_deactivated if is_deactivated is None else is_deactivated
    change = UserChange(is_admin=user.is_admin, is_deactivated=deactivated, password=password)
    return await users.change_user(OPERATOR, name, change)


async def _deactivate(users: UserService, name: str) -> int:
    """Number of active administrators that are left."""
    await _change(users, name, is_deactivated=True)
    return sum(user.is_admin and not user.is_deactivated for user in await users.list_users(OPERATOR))


def _run(data: Path | None, work: Callable[[UserService], Awaitable[T]]) -> T:
    """The result of the work on the users of the chosen database."""
    from aerotask.db.connecting import explained_failures  # noqa: PLC0415  only for these commands
    from aerotask.wiring import open_user_service  # noqa: PLC0415

    async def run(url: str) -> T:
        async with open_user_service(url) as users:
            return await work(users)

    with _database(data) as url, explained_failures(url):
        return asyncio.run(run(url))


@contextmanager
def _database(data: Path | None) -> Iterator[str]:
    own_server = os.environ.get("AEROTASK_DATABASE_URL")
    if data is not None:
        from aerotask.stack.embedded_database import embedded_database  # noqa: PLC0415  as in `_run`

        with embedded_database(data) as url:
            yield url
    elif own_server:
        yield _checked(own_server)
    else:
        raise InvalidInput("Name the data folder of `aerotask up` with --data, or set AEROTASK_DATABASE_URL.")


def _checked(url: str) -> str:
    try:
        return check_database_url(url)
    except InvalidInput as error:
        raise InvalidInput(f"AEROTASK_DATABASE_URL {error.message}") from error


def _replace_first_password(data: Path, name: str, password: str) -> None:
    """Keep the file that `aerotask up` points to right, if there is one."""
    from aerotask.stack.private_files import write_private  # noqa: PLC0415  as in `_run`
    from aerotask.stack.stack import FIRST_ADMIN, admin_password_file  # noqa: PLC0415

    file = admin_password_file(data)
    if name == FIRST_ADMIN and file.is_file():
        write_private(file, f"{password}\n")


def _password(*, from_stdin: bool) -> str:
    return sys.stdin.readline().rstrip("\r\n") if from_stdin else generate_password()


def _tell(name: str, change: str, password: str, *, from_stdin: bool) -> None:
    shown = "" if from_stdin else f" The password is {password}"
    out.print(f"{name} {change}.{shown}", markup=False, highlight=False, soft_wrap=True)


def _roles(user: UserRow) -> str:
    roles = {"admin": user.is_admin, "deactivated": user.is_deactivated}
    return ", ".join(role for role, has in roles.items() if has)

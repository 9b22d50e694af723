"""Commands that run one process of an installation: `api`, `worker` and `migrate`."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Annotated

import typer

from aerotask.cli.console import AdoptStorage, Host, Port, load_settings, out
from aerotask.config import Settings

_Descriptor = Annotated[
    int | None, typer.Option(hidden=True, help="An inherited listening socket, instead of an address.")
]
_PasswordFile = Annotated[
    Path | None,
    typer.Option(help="The file for a generated administrator's password, instead of printing it."),
]


def api(*, host: Host = "127.0.0.1", port: Port = 8000, descriptor: _Descriptor = None) -> None:
    """Run only the API."""
    from aerotask.api.serve import serve  # noqa: PLC0415  the worker must not import it
    from aerotask.stack.listener import open_listener  # noqa: PLC0415

    settings = load_settings()
    with open_listener(host, port) if descriptor is None else socket.socket(fileno=descriptor) as listener:
        asyncio.run(_verify_storage(settings))
        serve(settings, listener)


def worker() -> None:
    """Run one worker."""
    from aerotask.worker.main import run_worker  # noqa: PLC0415  the API must not import it

    settings = load_settings()
    asyncio.run(run_worker(settings))


def migrate(*, password_file: _PasswordFile = None, adopt_storage: AdoptStorage = False) -> None:
    """Migrate the database to the newest schema, and create the storage and the first administrator."""
    from aerotask.db.connecting import explained_failures  # noqa: PLC0415  not for `up`

    settings = load_settings(admin_password=True)
    with explained_failures(settings.database_url.get_secret_value()):
        password = asyncio.run(_migrate(settings, password_file, adopt_storage=adopt_storage))
    if password and password_file is None:
        out.print(f"First start. Sign in as [bold]admin[/bold] with the password [bold]{password}[/bold]")


async def _verify_storage(settings: Settings) -> None:
    from aerotask.wiring import open_installation  # noqa: PLC0415

    async with open_installation(settings, application="aerotask api") as installation:
        await installation.verify_before_start()


async def _migrate(settings: Settings, password_file: Path | None, *, adopt_storage: bool) -> str | None:
    from aerotask.db.migrate import has_schema, upgrade  # noqa: PLC0415  only here is alembic needed
    from aerotask.stack.private_files import write_private  # noqa: PLC0415
    from aerotask.wiring import open_platform  # noqa: PLC0415

    def keep(generated: str) -> None:
        if password_file is not None:
            write_private(password_file, f"{generated}\n")

    async with open_platform(settings, application="aerotask migrate") as platform:
        if not adopt_storage and not await has_schema(platform.db):
            await platform.installation.check_before_first_schema()
        await upgrade(platform.db)
        await platform.installation.join(adopt=adopt_storage)
        password = settings.admin_password.get_secret_value() if settings.admin_password else None
        return await platform.users.ensure_first_admin(password, keep=keep)

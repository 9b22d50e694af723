"""Commands that run one process of an installation: `api`, `worker` and `migrate`."""

from __future__ import annotations

import asyncio

from aerotask.cli.console import Host, Port, load_settings, out
from aerotask.config import Settings


def api(*, host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run only the API."""
    from aerotask.api.serve import serve  # noqa: PLC0415  the worker must not import it

    settings = load_settings()
    serve(settings, host=host, port=port)


def worker() -> None:
    """Run one worker."""
    from aerotask.worker.main import run_worker  # noqa: PLC0415  the API must not import it

    settings = load_settings()
    asyncio.run(run_worker(settings))


def migrate() -> None:
    """Migrate the database to the newest schema, and create the first administrator."""
    settings = load_settings()
    password = asyncio.run(_migrate(settings))
    if password:
        out.print(f"First start. Sign in as [bold]admin[/bold] with the password [bold]{password}[/bold]")


async def _migrate(settings: Settings) -> str | None:
    from aerotask.db.migrate import upgrade  # noqa: PLC0415  only here is alembic needed
    from aerotask.wiring import open_platform  # noqa: PLC0415

    async with open_platform(settings, application="aerotask migrate") as platform:
        await upgrade(platform.db)
        password = settings.admin_password.get_secret_value() if settings.admin_password else None
        return await platform.users.ensure_first_admin(password)

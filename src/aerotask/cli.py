"""Command line `aerotask`: the whole stack, each part of it, and a demonstration."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path
from typing import Annotated

import structlog
import typer
from pydantic import ValidationError
from rich.console import Console

from aerotask import __version__
from aerotask.config import Settings
from aerotask.domain.errors import AerotaskError, InvalidInput
from aerotask.failpoints import armed_failpoints
from aerotask.logs import configure_logs

app = typer.Typer(
    help="A processing platform for drone and raster datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)
_log = structlog.get_logger(__name__)

# Interval of the supervisor's checks that every part still runs.
_CHECK_INTERVAL_S = 0.5

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)]
Data = Annotated[Path, typer.Option(help="The folder for all data.")]
Workers = Annotated[int, typer.Option(help="Number of worker processes.", min=1, max=64)]


def main() -> None:
    """Run the command; expected errors end in a message without a traceback."""
    try:
        app()
    except AerotaskError as error:
        _err.print(f"[red]{error.message}[/red]", soft_wrap=True)
        raise SystemExit(1) from error
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            variable = f"AEROTASK_{fault['loc'][-1]}".upper()
            _err.print(f"[red]{variable}: {fault['msg']}[/red]", soft_wrap=True)
        raise SystemExit(2) from error


@app.command()
def up(
    *, host: Host = "127.0.0.1", port: Port = 8000, data: Data = Path("var/up"), workers: Workers = 1
) -> None:
    """Run the whole stack in the foreground, with embedded Postgres and Valkey servers unless addresses are set."""
    from aerotask.stack.folder import OwnedFolder  # noqa: PLC0415  only for `up` and `demo`
    from aerotask.stack.stack import running_stack  # noqa: PLC0415

    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: interrupted.set())
    with OwnedFolder(data) as folder, running_stack(folder, host=host, port=port, workers=workers) as stack:
        _out.print(
            f"Aerotask is at [bold]{stack.address}[/bold] (API: {stack.address}/docs). Press Ctrl-C to stop."
        )
        while not interrupted.wait(_CHECK_INTERVAL_S):
            stopped = stack.stopped_part()
            if stopped:
                _err.print(f"[red]{stopped} has stopped unexpectedly; stopping everything.[/red]")
                raise typer.Exit(1)
        _out.print("Stopping …")


@app.command()
def demo(
    *,
    file: Annotated[
        Path | None,
        typer.Option(help="Your own raster, instead of synthetic data.", exists=True, dir_okay=False),
    ] = None,
    data: Data = Path("var/demo"),
) -> None:
    """Run a demonstration: start everything, upload a raster, export its NDVI, download and verify it, stop everything."""
    from aerotask.demo import run_demo  # noqa: PLC0415  only for `up` and `demo`

    run_demo(file, data, _out)


@app.command()
def api(*, host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run only the API."""
    from aerotask.api.serve import serve  # noqa: PLC0415  the worker must not import it

    settings = _settings()
    serve(settings, host=host, port=port)


@app.command()
def worker() -> None:
    """Run one worker."""
    from aerotask.worker.main import run_worker  # noqa: PLC0415  the API must not import it

    settings = _settings()
    asyncio.run(run_worker(settings))


@app.command()
def migrate() -> None:
    """Migrate the database to the newest schema, and create the first administrator."""
    settings = _settings()
    password = asyncio.run(_migrate(settings))
    if password:
        _out.print(f"First start. Sign in as [bold]admin[/bold] with the password [bold]{password}[/bold]")


@app.command()
def version() -> None:
    """Print the version."""
    _out.print(__version__)


async def _migrate(settings: Settings) -> str | None:
    from aerotask.db.migrate import upgrade  # noqa: PLC0415  only here is alembic needed
    from aerotask.wiring import open_platform  # noqa: PLC0415

    async with open_platform(settings, application="aerotask migrate") as platform:
        await upgrade(platform.db)
        password = settings.admin_password.get_secret_value() if settings.admin_password else None
        return await platform.users.ensure_first_admin(password)


def _settings() -> Settings:
    settings = Settings()
    configure_logs(settings.log_format)
    for name, armed in armed_failpoints().items():
        _log.warning("failpoint.armed", name=name, action=armed.action)
        if settings.mode == "production":
            raise InvalidInput(
                "AEROTASK_FAILPOINT is for tests and must not be set in production mode.",
                code="unsafe-setting",
            )
    return settings

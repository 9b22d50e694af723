"""Commands that run a whole stack: `up` and `demo`."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from aerotask.cli.console import AdoptStorage, Data, Host, Port, out
from aerotask.config import Settings
from aerotask.logs import configure_logs
from aerotask.sandbox.kernel.environment import take_variables
from aerotask.sandbox.kernel.undumpable import make_undumpable

if TYPE_CHECKING:
    from aerotask.stack.stack import Stack

# Interval of the supervisor's checks that every part still runs.
_CHECK_INTERVAL_S = 0.5

Workers = Annotated[int, typer.Option(help="Number of worker processes.", min=1, max=64)]


def up(
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    data: Data = Path("var/up"),
    workers: Workers = 1,
    adopt_storage: AdoptStorage = False,
) -> None:
    """Run the whole stack in the foreground, with embedded Postgres and Valkey servers unless addresses are set."""
    from aerotask.services.system.supervision import Supervision, write_supervision  # noqa: PLC0415  as below
    from aerotask.stack.folder import OwnedFolder, explained_file_errors  # noqa: PLC0415  only for `up` and `demo`
    from aerotask.stack.listener import open_listener  # noqa: PLC0415
    from aerotask.stack.stack import running_stack  # noqa: PLC0415
    from aerotask.stack.supervisor import Supervisor  # noqa: PLC0415

    configure_logs(os.environ.get("AEROTASK_LOG_FORMAT", "console"))
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: interrupted.set())
    make_undumpable()
    # They are passed on to our own processes alone, not to Postgres and Valkey.
    secrets = take_variables(Settings.secret_variables())
    with explained_file_errors(data), open_listener(host, port) as listener, OwnedFolder(data) as folder:
        status_file = folder.path / "supervision.json"
        write_supervision(status_file, Supervision())
        settings = {**secrets, "AEROTASK_SUPERVISION_FILE": str(status_file)}
        with running_stack(
            folder, listener=listener, workers=workers, settings=settings, adopt_storage=adopt_storage
        ) as stack:
            out.print(_summary(stack, folder.path, password_given="AEROTASK_ADMIN_PASSWORD" in secrets))
            supervisor = Supervisor(stack.parts(), status_file)
            while not interrupted.wait(_CHECK_INTERVAL_S):
                supervisor.check()
            out.print("Stopping …")


def _summary(stack: Stack, data: Path, *, password_given: bool) -> Panel:
    """Facts that somebody needs to know about the stack that has just started."""
    from aerotask.stack.stack import FIRST_ADMIN, admin_password_file  # noqa: PLC0415  only for `up`

    embedded = "Postgres" in stack.servers
    file = admin_password_file(data)
    if file.is_file():
        where = f"in {file} (the first one)"
    elif password_given:
        where = "that of AEROTASK_ADMIN_PASSWORD at the first start"
    else:
        where = "as set before"
    of_folder = f" --data {shlex.quote(str(data))}" if embedded else ""
    rows = Table.grid(padding=(0, 2))
    for name, value in {
        "Address": f"{stack.address} (API reference: {stack.address}/docs)",
        "User": FIRST_ADMIN,
        "Password": where,
        "If it is lost": f"aerotask user reset-password {FIRST_ADMIN}{of_folder}",
        "Data": str(data) if embedded else f"{data}; the database is that of AEROTASK_DATABASE_URL",
        "Stop": f"Ctrl-C here, or: kill {os.getpid()}",
    }.items():
        rows.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return Panel(rows, title="Aerotask is running", expand=False)


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
    from aerotask.stack.folder import explained_file_errors  # noqa: PLC0415

    with explained_file_errors(data):
        run_demo(file, data, out)

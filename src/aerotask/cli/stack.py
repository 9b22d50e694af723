"""Commands that run a whole stack: `up` and `demo`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from aerotask.cli.console import Data, Host, Port, err, out

# Interval of the supervisor's checks that every part still runs.
_CHECK_INTERVAL_S = 0.5

Workers = Annotated[int, typer.Option(help="Number of worker processes.", min=1, max=64)]


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
        out.print(
            f"Aerotask is at [bold]{stack.address}[/bold] (API: {stack.address}/docs). Press Ctrl-C to stop."
        )
        while not interrupted.wait(_CHECK_INTERVAL_S):
            stopped = stack.stopped_part()
            if stopped:
                err.print(f"[red]{stopped} has stopped unexpectedly; stopping everything.[/red]")
                raise typer.Exit(1)
        out.print("Stopping …")


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

    run_demo(file, data, out)

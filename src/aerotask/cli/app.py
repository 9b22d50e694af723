"""Application of the command line: its commands, and its errors as messages."""

from __future__ import annotations

import typer
from pydantic import ValidationError
from rich.markup import escape

from aerotask import __version__
from aerotask.blobs.storage_root import StorageAway
from aerotask.cli import backup, processes, stack, storage, user
from aerotask.cli.console import err, out
from aerotask.domain.errors import AerotaskError

app = typer.Typer(
    help="A processing platform for drone and raster datasets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    stack.up,
    stack.demo,
    processes.api,
    processes.worker,
    processes.migrate,
    backup.backup,
    backup.restore,
):
    app.command()(command)
app.add_typer(storage.group, name="storage")
app.add_typer(user.app, name="user")


def main() -> None:
    """Run the command; expected errors end in a message without a traceback."""
    try:
        app()
    except (AerotaskError, StorageAway) as error:
        message = error.message if isinstance(error, AerotaskError) else error.strerror
        err.print(f"[red]{escape(str(message))}[/red]", soft_wrap=True)
        raise SystemExit(1) from error
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            variable = f"AEROTASK_{fault['loc'][-1]}".upper()
            reason = fault["msg"].removeprefix("Value error, ")
            err.print(f"[red]{variable}: {escape(reason)}[/red]", soft_wrap=True)
        raise SystemExit(2) from error


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)

"""Views of GeoPackages, which SQLite computes anew whenever GDAL counts or reads their rows: a recursive one may be endless."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown

MIN_STEPS = 5_000_000
"""Steps of SQLite's virtual machine for all views together, some 0.2 s, besides one for each byte of the file."""
MAX_STEPS = 500_000_000
_STEPS_PER_CALL = 10_000


def check_views(source: Path, name: str) -> None:
    """Reads every view of the GeoPackage at `source` once, with a limit that doesn't depend on the machine's load.

    Raises:
        InvalidInput: they need more steps than a file of this size may (`vector-too-slow`).
    """
    steps_left = min(MIN_STEPS + source.stat().st_size, MAX_STEPS)

    def count_steps() -> bool:
        nonlocal steps_left
        steps_left -= _STEPS_PER_CALL
        return steps_left < 0

    address = f"{source.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        connection.set_progress_handler(count_steps, _STEPS_PER_CALL)
        view = ""
        try:
            for (view,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'view'"
            ).fetchall():
                _read(connection, view)
        except sqlite3.Error:
            if steps_left < 0:
                raise _too_slow(name, view) from None
            # GDAL tells what is wrong with the file itself.


def _read(connection: sqlite3.Connection, view: str) -> None:
    quoted = view.replace('"', '""')
    try:
        for _ in connection.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608  an identifier, quoted
            pass
    except sqlite3.OperationalError as error:
        # It uses a function that only GDAL has; the deadline for the file remains.
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise


def _too_slow(name: str, view: str) -> InvalidInput:
    return InvalidInput(
        f"The view {shown(view)} of {shown(name)} takes too long to compute; replace it by a table.",
        code="vector-too-slow",
    )

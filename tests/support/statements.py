"""Counters of statements, as reported by the driver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from aerotask.db.engine import Database


@contextmanager
def rows_changed(database: Database, beginning: str) -> Iterator[list[int]]:
    """The number of rows changed by each statement of the block with that prefix."""
    counts: list[int] = []
    engine = database.engine.sync_engine

    def note(_c: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith(beginning):
            counts.append(cursor.rowcount)

    event.listen(engine, "after_cursor_execute", note)
    try:
        yield counts
    finally:
        event.remove(engine, "after_cursor_execute", note)

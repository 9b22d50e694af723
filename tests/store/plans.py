"""What Postgres plans to do for the statements of a query."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.store.engine import Database


@contextmanager
def _recorded(database: Database) -> Iterator[list[tuple[str, Any]]]:
    statements: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def tables_read_through(
    database: Database, query: Callable[[AsyncConnection], Awaitable[object]], tables: Collection[str]
) -> set[str]:
    """Those of the tables that Postgres would scan from end to end for any statement of the query."""
    async with database.begin() as connection:
        with _recorded(database) as statements:
            await query(connection)
        scanned: set[str] = set()
        for statement, parameters in statements:
            plan = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
            found = plan.scalar_one()
            scanned |= _scans((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])
        await connection.rollback()
    assert statements
    return scanned & set(tables)


def _scans(node: dict[str, Any]) -> set[str]:
    here = {node["Relation Name"]} if node["Node Type"] == "Seq Scan" else set()
    return here.union(*(_scans(child) for child in node.get("Plans", [])))

"""What Postgres does for the statements of a query, and databases that are full enough to tell."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.support.databases import fresh_database

from aerotask.db.engine import Database


@contextmanager
def filled_database(server_url: str, fill: str) -> Iterator[str]:
    """The address of a database with the rows that `fill` makes."""
    with asyncio.Runner() as runner:
        scope = fresh_database(server_url)
        url = runner.run(scope.__aenter__())
        try:
            runner.run(_fill(url, fill))
            yield url
        finally:
            runner.run(scope.__aexit__(None, None, None))


async def _fill(url: str, fill: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        # The rows are right by construction; checking a million references would take longer than all else.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(fill)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def rows_read(
    database: Database, query: Callable[[AsyncConnection], Awaitable[object]]
) -> Counter[str]:
    """How many rows of each table the query's statements read, also those that they then leave out.

    The query is taken back and its statements are run once more to see them; nothing of it stays.
    """
    async with database.begin() as connection:
        first_time = await connection.begin_nested()
        with _recorded(database) as statements:
            await query(connection)
        await first_time.rollback()
        read: Counter[str] = Counter()
        for statement, parameters in statements:
            explained = f"EXPLAIN (ANALYZE, TIMING off, FORMAT json) {statement}"
            plan = (await connection.exec_driver_sql(explained, parameters)).scalar_one()
            read += _rows((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
        await connection.rollback()
    assert statements
    return read


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


_LEFT_OUT = ("Rows Removed by Filter", "Rows Removed by Index Recheck")


def _rows(node: dict[str, Any]) -> Counter[str]:
    read: Counter[str] = Counter()
    if node["Node Type"].endswith("Scan") and "Relation Name" in node:
        # Of one loop on average.
        of_one = node["Actual Rows"] + sum(node.get(name, 0) for name in _LEFT_OUT)
        read[node["Relation Name"]] = round(of_one * node["Actual Loops"])
    for child in node.get("Plans", []):
        read += _rows(child)
    return read

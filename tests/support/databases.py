"""Databases of tests, each copied from a migrated template."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from sqlalchemy import text
from tests.support.storage import INSTALLATION

from aerotask.db.engine import Database, open_database
from aerotask.db.migrate import upgrade
from aerotask.store.storage import installation

TEMPLATE = "aerotask_template"


def with_name(url: str, name: str) -> str:
    """The address of the database `name` on the server of `url`."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def make_template(server_url: str) -> None:
    """Create the migrated template database."""
    await run_sql(server_url, f'CREATE DATABASE "{TEMPLATE}"')
    database = open_database(with_name(server_url, TEMPLATE), application="tests")
    await upgrade(database)
    async with database.begin() as connection:
        await installation.replace(connection, INSTALLATION)
    await database.close()


@asynccontextmanager
async def fresh_database(server_url: str, *, template: str = TEMPLATE) -> AsyncIterator[str]:
    """The address of a fresh database, dropped at the end of the block."""
    name = f"test_{secrets.token_hex(6)}"
    await run_sql(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    try:
        yield with_name(server_url, name)
    finally:
        await run_sql(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def run_sql(url: str, statement: str) -> None:
    """Run one statement outside any transaction."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def wait_for_lock(database: Database, kind: str) -> None:
    """Wait until a session of this database waits for a lock of that kind."""
    query = text("""
        SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE NOT l.granted AND l.locktype = :kind AND a.datname = current_database()
    """)
    async with database.read() as connection, asyncio.timeout(30):
        while not (await connection.execute(query, {"kind": kind})).scalar_one():  # noqa: ASYNC110  Postgres tells nobody
            await asyncio.sleep(0.01)

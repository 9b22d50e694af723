"""Alembic environment: uses the caller's connection, or AEROTASK_DATABASE_URL."""

from __future__ import annotations

import asyncio
import os

from alembic import context
from sqlalchemy import Connection

from aerotask.db.engine import open_database
from aerotask.db.models import Model


def run(connection: Connection) -> None:
    """Runs the migrations on the connection in one transaction."""
    context.configure(connection=connection, target_metadata=Model.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_by_url(url: str) -> None:
    """Runs the migrations on the database at `url`."""
    database = open_database(url, application="alembic")
    async with database.begin() as connection:
        await connection.run_sync(run)
    await database.close()


brought: Connection | None = context.config.attributes.get("connection")
if brought is not None:
    run(brought)
else:
    asyncio.run(run_by_url(os.environ["AEROTASK_DATABASE_URL"]))

"""Migration of a database to a revision of the schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, func, select, true

import aerotask
from aerotask.db.engine import Database

MIGRATION_LOCK = 0x41450000


def migrations_folder() -> Path:
    """The folder of revisions: inside the package in a wheel, at the repository's root in a checkout."""
    package = Path(aerotask.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


async def has_schema(database: Database) -> bool:
    """True if the database has been migrated before."""
    async with database.read() as connection:
        found = await connection.execute(select(func.to_regclass("alembic_version")))
        return found.scalar_one() is not None


async def upgrade(database: Database, revision: str = "head") -> None:
    """Upgrades to `revision`; of concurrent processes one migrates and the others wait."""
    await _run(database, command.upgrade, revision)


async def downgrade(database: Database, revision: str) -> None:
    """Downgrades to `revision` (`base` for an empty database)."""
    await _run(database, command.downgrade, revision)


async def _run(database: Database, step: Callable[[Config, str], None], revision: str) -> None:
    def run(connection: Connection) -> None:
        # Another process's migration may take longer than the lock timeout.
        connection.execute(select(func.set_config("lock_timeout", "0", true())))
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config = Config()
        config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
        config.attributes["connection"] = connection
        step(config, revision)

    async with database.begin() as connection:
        await connection.run_sync(run)

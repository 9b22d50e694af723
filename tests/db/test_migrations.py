from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from tests.support.databases import fresh_database

from aerotask.db.engine import Database, open_database
from aerotask.db.migrate import downgrade, upgrade
from aerotask.db.models import Model
from aerotask.stack.servers import LocalServers


async def test_the_migrations_create_exactly_the_tables_of_the_models(database: Database) -> None:
    def drift(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return list(compare_metadata(context, Model.metadata))

    async with database.begin() as connection:
        assert await connection.run_sync(drift) == []


async def test_every_migration_can_be_downgraded_and_upgraded_again(servers: LocalServers) -> None:
    async with fresh_database(servers.postgres.url, template="template0") as url:
        database = open_database(url, application="tests")
        await upgrade(database)
        await downgrade(database, "base")
        assert await tables(database) == {"alembic_version"}
        await upgrade(database)
        assert await tables(database) == set(Model.metadata.tables) | {"alembic_version"}
        await database.close()


async def tables(database: Database) -> set[str]:
    async with database.read() as connection:
        rows = await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        return set(rows.scalars())

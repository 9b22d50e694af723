"""The data folder of a stopped stack, with a migrated database and a storage."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from aerotask.blobs.local import LocalBlobs
from aerotask.db.engine import open_database
from aerotask.db.migrate import upgrade
from aerotask.services.storage.installation import InstallationService
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import running_postgres
from aerotask.stack.stack import storage_folder


@pytest.fixture
def stopped_stack(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / "data"
    with OwnedFolder(data) as folder:
        try:
            with running_postgres(folder) as postgres:
                asyncio.run(_prepare(postgres.url, storage_folder(data)))
        except BaseException:
            folder.discard()
            raise
    try:
        yield data
    finally:
        OwnedFolder(data).discard()


async def _prepare(database_url: str, storage: Path) -> None:
    database = open_database(database_url, application="tests")
    try:
        await upgrade(database)
        await InstallationService(database, LocalBlobs(storage)).join(adopt=False)
    finally:
        await database.close()

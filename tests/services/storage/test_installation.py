"""Installation: which databases and storages are joined by themselves, and which only on request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from tests.support.rows import add_dataset, add_user
from tests.support.served import until
from tests.support.storage import INSTALLATION, seen_unnamed

from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.storage_root import StorageAway
from aerotask.db.engine import Database
from aerotask.services.storage.installation import InstallationService, StorageMismatch
from aerotask.store.datasets import entry_writes
from aerotask.store.datasets.entries import EntryContent

OTHER = UUID("5b1c6a4e-0f0e-4a5e-9d1a-000000000002")


@dataclass
class Pair:
    """A database, which has an id from its template, and a storage, which is not there yet."""

    db: Database
    root: Path

    @property
    def service(self) -> InstallationService:
        return InstallationService(self.db, LocalBlobs(self.root))

    async def forget_id(self) -> None:
        """The database of an earlier version, or a new one."""
        async with self.db.begin() as connection:
            await connection.execute(text("DELETE FROM installation"))

    async def name_a_blob(self) -> None:
        rows = await add_dataset(self.db, await add_user(self.db, "owner"), "acme")
        async with self.db.begin() as connection:
            await entry_writes.put_file(
                connection, rows.dataset_id, "a", EntryContent("key", "00", 1, "generic")
            )

    def fill(self) -> None:
        """The storage of an earlier version: with a blob, without a marker."""
        (self.root / "blobs" / "ey").mkdir(parents=True)
        (self.root / "blobs" / "ey" / "key").write_bytes(b"x")

    @property
    def marked(self) -> UUID | None:
        return LocalBlobs(self.root).installation_id()


@pytest.fixture
def pair(database: Database, tmp_path: Path) -> Pair:
    return Pair(database, tmp_path / "deep" / "storage")


async def test_an_empty_database_creates_its_storage(pair: Pair) -> None:
    await pair.forget_id()
    await pair.service.check_before_first_schema()
    await pair.service.join(adopt=False)
    assert (await pair.service.verify()).id == pair.marked
    assert sorted(each.name for each in pair.root.iterdir()) == [
        "blobs",
        "cache",
        "installation",
        "partial",
        "uploads",
        "work",
    ]


async def test_joining_again_changes_nothing_and_restores_missing_folders(pair: Pair) -> None:
    await pair.service.join(adopt=False)
    marked = pair.marked
    (pair.root / "work").rmdir()
    await pair.service.join(adopt=False)
    assert (pair.marked, (pair.root / "work").is_dir()) == (marked, True)


async def test_processes_that_join_at_once_agree(pair: Pair) -> None:
    await pair.forget_id()
    await asyncio.gather(*(pair.service.join(adopt=False) for _ in range(8)))
    assert (await pair.service.verify()).id == pair.marked


async def test_a_filled_database_of_an_earlier_version_adopts_its_storage(pair: Pair) -> None:
    await pair.forget_id()
    await pair.name_a_blob()
    pair.fill()
    await pair.service.join(adopt=False)
    assert (await pair.service.verify()).id == pair.marked


async def test_a_new_database_does_not_adopt_a_filled_storage_by_itself(pair: Pair) -> None:
    await pair.forget_id()
    pair.fill()
    with pytest.raises(StorageMismatch, match="it would remove them all"):
        await pair.service.check_before_first_schema()
    with pytest.raises(StorageMismatch, match="--adopt-storage"):
        await pair.service.join(adopt=False)
    assert pair.marked is None
    await pair.service.join(adopt=True)
    assert (await pair.service.verify()).id == pair.marked


async def test_a_filled_database_does_not_create_an_empty_storage(pair: Pair) -> None:
    await pair.name_a_blob()
    with pytest.raises(StorageMismatch, match="isn't mounted"):
        await pair.service.join(adopt=False)
    assert not pair.root.exists()


async def test_a_storage_of_another_installation_is_adopted_on_request_under_a_new_id(pair: Pair) -> None:
    pair.fill()
    LocalBlobs(pair.root).create(OTHER)
    await seen_unnamed(pair.db, ["key"], ago_s=10_000)
    with pytest.raises(StorageMismatch, match=f"belongs to installation {OTHER}"):
        await pair.service.verify()
    with pytest.raises(StorageMismatch, match=f"the database to installation {INSTALLATION}"):
        await pair.service.join(adopt=False)
    await pair.service.join(adopt=True)
    assert pair.marked not in {OTHER, INSTALLATION, None}
    assert (await pair.service.verify()).id == pair.marked
    async with pair.db.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM unnamed_blobs"))).scalar_one() == 0


async def test_a_storage_that_is_not_there_is_an_outage(pair: Pair) -> None:
    with pytest.raises(StorageAway, match="run `aerotask migrate`"):
        await pair.service.verify()
    await pair.service.verify_before_start()


class CountingBlobs(LocalBlobs):
    """Counts how often the marker is read."""

    attempts = 0

    def require(self) -> UUID:
        self.attempts += 1
        return super().require()


async def test_waiting_for_a_storage_is_logged_once(pair: Pair) -> None:
    blobs = CountingBlobs(pair.root)
    with capture_logs() as log:
        async with InstallationService(pair.db, blobs).verified(on_failure=pytest.fail):
            await until(lambda: blobs.attempts >= 4)
            blobs.create(INSTALLATION)
            await until(lambda: len(log) > 1)
    assert [entry["event"] for entry in log] == ["installation.unverified", "installation.verified"]


async def test_a_database_without_the_tables_asks_for_the_migration(pair: Pair) -> None:
    async with pair.db.begin() as connection:
        await connection.execute(text("DROP TABLE installation"))
    with pytest.raises(StorageMismatch, match="aerotask migrate"):
        await pair.service.verify_before_start()


async def test_a_process_that_started_during_an_outage_is_stopped_by_a_mismatch(pair: Pair) -> None:
    LocalBlobs(pair.root).create(OTHER)
    stopped = asyncio.Event()
    with capture_logs() as log:
        async with pair.service.verified(on_failure=stopped.set), asyncio.timeout(30):
            await stopped.wait()
    assert [entry["event"] for entry in log] == ["installation.mismatch"]

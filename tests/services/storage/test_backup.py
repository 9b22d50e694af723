"""Backups into a folder and into a TAR file, and their restoration elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.databases import fresh_database
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.storage import new_storage

from aerotask.blobs.local import LocalBlobs
from aerotask.db.engine import Database, open_database
from aerotask.domain.errors import AerotaskError, Conflict, InvalidInput
from aerotask.services.datasets.contents import put_contents
from aerotask.services.storage.backup import BackupService
from aerotask.services.storage.backup_files import Manifest
from aerotask.services.storage.backup_source import open_source
from aerotask.services.storage.backup_target import open_target
from aerotask.services.storage.restore import RestoreService
from aerotask.stack.postgres_programs import find_programs
from aerotask.stack.servers import LocalServers
from aerotask.store.datasets import entries
from aerotask.store.datasets.entries import EntryContent

CONTENTS = {"a.txt": b"first", "b/c.bin": bytes(3_000_000), "b/d.txt": b"", "e.txt": b"fifth"}
SECRET = "a secret key of more than thirty-two characters"


class Interrupted(Exception):
    """The process was ended while it copied."""


@pytest.fixture
async def rows(database: Database) -> Rows:
    return await add_dataset(database, await add_user(database, "owner"), "acme")


@pytest.fixture
def storage(tmp_path: Path) -> LocalBlobs:
    return new_storage(tmp_path / "storage")


@pytest.fixture
async def service(rows: Rows, storage: LocalBlobs, database_url: str) -> BackupService:
    """The backups of an installation with four files."""
    stored = {}
    for path, content in CONTENTS.items():
        blob = await storage.put(chunks(content), limit_bytes=10**9)
        stored[path] = EntryContent(blob.key, blob.sha256, blob.size_bytes, "generic")
    async with rows.db.begin() as connection:
        await put_contents(connection, rows.dataset_id, stored)
    return BackupService(rows.db, storage, database_url, SECRET, find_programs("pg_dump"))


@pytest.fixture(params=["backup", "backup.tar"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


def blob_files(storage: Path) -> Iterator[Path]:
    return (file for file in (storage / "blobs").glob("*/*") if file.is_file())


async def back_up(service: BackupService, target: Path, *, until: int = 100) -> Manifest:
    """Makes a backup, or is interrupted after `until` blobs."""

    def on_progress(copied: int, _total: int) -> None:
        if copied == until:
            raise Interrupted

    with open_target(target) as opened:
        return await service.back_up(opened, on_progress)


@asynccontextmanager
async def empty_installation(servers: LocalServers, folder: Path) -> AsyncIterator[RestoreService]:
    async with fresh_database(servers.postgres.url, template="template0") as url:
        database = open_database(url, application="tests")
        try:
            yield RestoreService(database, LocalBlobs(folder), url, find_programs("pg_dump"))
        finally:
            await database.close()


async def restored_contents(service: RestoreService, rows: Rows) -> dict[str, bytes]:
    async with service.db.read() as connection:
        found = await entries.find_within(connection, rows.dataset_id, [""])
    contents = {}
    for row in found:
        if row.blob_key is not None:
            blob = await service.blobs.open(row.blob_key, size_bytes=row.size_bytes)
            contents[row.path] = b"".join([chunk async for chunk in blob.chunks(0, blob.size_bytes)])
            await blob.close()
    return contents


async def restore(service: RestoreService, backup: Path) -> None:
    with open_source(backup) as source:
        await service.restore(source, lambda _done, _total: None)


async def test_a_backup_restored_elsewhere_has_every_row_and_every_file(
    service: BackupService, target: Path, rows: Rows, servers: LocalServers, tmp_path: Path
) -> None:
    manifest = await back_up(service, target)
    assert (manifest.blobs, manifest.size_bytes) == (4, 3_000_010)
    async with empty_installation(servers, tmp_path / "elsewhere") as elsewhere:
        await restore(elsewhere, target)
        assert await restored_contents(elsewhere, rows) == CONTENTS
    assert list(service.blobs.work_root.iterdir()) == []


async def test_an_interrupted_backup_is_continued(
    service: BackupService, target: Path, rows: Rows, servers: LocalServers, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        await back_up(service, target, until=2)
    with pytest.raises(InvalidInput), open_source(target):
        pass
    with open_target(target) as continued:
        assert len(continued.stored_keys()) == 2
    assert (await back_up(service, target)).blobs == 4
    async with empty_installation(servers, tmp_path / "elsewhere") as elsewhere:
        await restore(elsewhere, target)
        assert await restored_contents(elsewhere, rows) == CONTENTS


async def test_a_tar_file_that_was_cut_off_is_continued_at_its_last_whole_blob(
    service: BackupService, tmp_path: Path
) -> None:
    target, partial = tmp_path / "backup.tar", tmp_path / "backup.tar.partial"
    with pytest.raises(Interrupted):
        await back_up(service, target, until=3)
    with partial.open("r+b") as written:
        written.truncate(partial.stat().st_size - 100)
    with open_target(target) as continued:
        assert len(continued.stored_keys()) == 2
    assert (await back_up(service, target)).blobs == 4


async def test_a_further_backup_into_a_folder_copies_what_is_new_and_drops_what_is_gone(
    service: BackupService, rows: Rows, tmp_path: Path
) -> None:
    await back_up(service, tmp_path / "backup")
    before = {file.name: file.stat().st_ino for file in blob_files(tmp_path / "backup")}
    blob = await service.blobs.put(chunks(b"new"), limit_bytes=10)
    async with rows.db.begin() as connection:
        new = {"a.txt": EntryContent(blob.key, blob.sha256, blob.size_bytes, "generic")}
        await put_contents(connection, rows.dataset_id, new)
    assert (await back_up(service, tmp_path / "backup")).blobs == 4
    after = {file.name: file.stat().st_ino for file in blob_files(tmp_path / "backup")}
    assert len(after) == 4
    assert after.keys() - before.keys() == {blob.key}
    assert all(before[key] == inode for key, inode in after.items() if key != blob.key)


async def test_damaged_and_missing_files_are_named_and_the_others_are_saved(
    service: BackupService,
    storage: LocalBlobs,
    target: Path,
    rows: Rows,
    servers: LocalServers,
    tmp_path: Path,
) -> None:
    async with rows.db.read() as connection:
        found = await entries.find_within(connection, rows.dataset_id, [""])
    keys = {row.path: row.blob_key for row in found}
    [damaged] = [file for file in blob_files(tmp_path / "storage") if file.name == keys["e.txt"]]
    damaged.chmod(0o644)
    damaged.write_bytes(b"FIFTH")
    await storage.remove(str(keys["a.txt"]))
    manifest = await back_up(service, target)
    assert (manifest.damaged, manifest.missing) == ((keys["e.txt"],), (keys["a.txt"],))
    assert manifest.blobs == 2
    async with empty_installation(servers, tmp_path / "elsewhere") as elsewhere:
        await restore(elsewhere, target)
        assert len(list(blob_files(tmp_path / "elsewhere"))) == 2


async def test_a_target_that_is_not_empty_is_refused(
    service: BackupService, tmp_path: Path, rows: Rows, database_url: str, servers: LocalServers
) -> None:
    await back_up(service, tmp_path / "backup")
    filled = RestoreService(rows.db, LocalBlobs(tmp_path / "new"), database_url, find_programs("pg_dump"))
    with pytest.raises(Conflict, match="database isn't empty"):
        await restore(filled, tmp_path / "backup")
    async with empty_installation(servers, tmp_path / "elsewhere") as elsewhere:
        await new_storage(tmp_path / "elsewhere").put(chunks(b"other"), limit_bytes=10)
        with pytest.raises(Conflict, match="storage isn't empty: it has 1 files"):
            await restore(elsewhere, tmp_path / "backup")


async def test_a_damaged_backup_is_refused_and_the_restoration_continues_once_it_is_repaired(
    service: BackupService, rows: Rows, servers: LocalServers, tmp_path: Path
) -> None:
    await back_up(service, tmp_path / "backup")
    [damaged] = [file for file in blob_files(tmp_path / "backup") if file.read_bytes() == b"fifth"]
    damaged.write_bytes(b"FIFTH")
    async with empty_installation(servers, tmp_path / "elsewhere") as elsewhere:
        with pytest.raises(InvalidInput, match="is damaged"):
            await restore(elsewhere, tmp_path / "backup")
        damaged.write_bytes(b"fifth")
        await restore(elsewhere, tmp_path / "backup")
        assert await restored_contents(elsewhere, rows) == CONTENTS


async def test_the_password_of_the_database_is_no_argument_of_a_process(
    service: BackupService, tmp_path: Path
) -> None:
    wrong = BackupService(
        service.db, service.blobs, "postgresql://u:hidden@127.0.0.1:1/x", SECRET, find_programs("pg_dump")
    )
    with pytest.raises(AerotaskError, match="pg_dump failed") as failed:
        await back_up(wrong, tmp_path / "backup")
    assert "hidden" not in failed.value.message

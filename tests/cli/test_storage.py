"""`aerotask storage` on the data folder of a stopped stack."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.rows import add_dataset, add_user
from tests.support.storage import seen_unnamed
from typer.testing import CliRunner, Result

from aerotask.blobs.local import LocalBlobs
from aerotask.cli.app import app
from aerotask.db.engine import open_database
from aerotask.services.datasets.contents import put_contents
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import running_postgres
from aerotask.stack.stack import secret_key_file, storage_folder
from aerotask.store.datasets.entries import EntryContent


@pytest.fixture
def data(stopped_stack: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stopped stack, beside an environment that names another installation."""
    monkeypatch.setenv("AEROTASK_DATABASE_URL", "postgresql://nobody@localhost:1/nothing")
    monkeypatch.setenv("AEROTASK_STORAGE_URL", "file:///nowhere")
    secret_key_file(stopped_stack).write_text("the stack's key, of more than thirty-two characters")
    with OwnedFolder(stopped_stack) as folder, running_postgres(folder) as postgres:
        asyncio.run(fill(postgres.url, LocalBlobs(storage_folder(stopped_stack))))
    return stopped_stack


async def fill(database_url: str, storage: LocalBlobs) -> None:
    """Stores a file that an entry names, and one that was seen without a name two hours ago."""

    async def chunks(content: bytes) -> AsyncIterator[bytes]:
        yield content

    database = open_database(database_url, application="tests")
    try:
        rows = await add_dataset(database, await add_user(database, "owner"), "acme")
        named = await storage.put(chunks(b"named"), limit_bytes=100)
        unnamed = await storage.put(chunks(b"unnamed"), limit_bytes=100)
        content = EntryContent(named.key, named.sha256, named.size_bytes, "generic")
        async with database.begin() as connection:
            await put_contents(connection, rows.dataset_id, {"a.txt": content})
        await seen_unnamed(database, [unnamed.key], ago_s=7200)
    finally:
        await database.close()


def storage(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["storage", *arguments])


def files(data: Path) -> list[Path]:
    return [file for file in (storage_folder(data) / "blobs").rglob("*") if file.is_file()]


def test_the_files_of_a_stopped_stack_are_verified(data: Path) -> None:
    sound = storage("verify", "--deep", "--data", str(data))
    assert (sound.exit_code, sound.stdout) == (
        0,
        "Compared the lengths and hashes of 1 files, 0.0 GB: 0 damaged files remain.\n",
    )
    for file in files(data):
        file.chmod(0o600)
        file.write_bytes(b"other")

    assert storage("verify", "--data", str(data)).exit_code == 0
    damaged = storage("verify", "--deep", "--data", str(data))
    assert damaged.exit_code == 1
    assert "a.txt" in damaged.stdout


def test_the_storage_of_a_stopped_stack_is_swept(data: Path) -> None:
    swept = storage("sweep", "--data", str(data))
    assert (swept.exit_code, swept.stdout) == (0, "Removed 1 files.\n")
    assert [file.read_bytes() for file in files(data)] == [b"named"]

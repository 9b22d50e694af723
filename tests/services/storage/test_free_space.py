"""Space on a short disk: what no row needs any more goes at once, and only that. "Short" is set above the disk's free space."""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select
from tests.support.callers import always
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.served import served
from tests.support.storage import seen_unnamed

from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.pinned import pin_blobs
from aerotask.config import Settings
from aerotask.db.models import ReleasedBlob
from aerotask.domain.access import Caller
from aerotask.domain.ids import new_id
from aerotask.services.storage.installation import StorageMismatch
from aerotask.store.datasets import derivatives, entry_writes
from aerotask.store.datasets.derivatives import NewDerivative
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.queue.claims import TaskInputRow
from aerotask.wiring import Platform, open_platform

EXBIBYTE = 1024**6


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


@dataclass
class ShortDisk:
    """A platform on a disk that counts as short, but isn't full."""

    platform: Platform
    rows: Rows

    async def stored(self) -> str:
        """A blob without a row."""
        return (await self.platform.blobs.put(chunks(b"content"), limit_bytes=100)).key

    async def put(self, path: str, key: str, sha256: str = "00") -> None:
        content = EntryContent(key, sha256, 7, "generic")
        async with self.rows.db.begin() as connection:
            await entry_writes.put_file(connection, self.rows.dataset_id, path, content)

    async def entry(self, path: str, sha256: str = "00") -> str:
        """The blob of a new entry."""
        key = await self.stored()
        await self.put(path, key, sha256)
        return key

    async def derivative(self, content_sha256: str) -> str:
        """The blob of a derivative of that content."""
        key = await self.stored()
        made = NewDerivative(
            self.rows.dataset_id, content_sha256, "cog", content_sha256, "1", key, 7, "d" * 64, {}
        )
        async with self.rows.db.begin() as connection:
            await derivatives.put(connection, [made])
        return key

    async def remove(self, path: str) -> None:
        async with self.rows.db.begin() as connection:
            await entry_writes.remove_within(connection, self.rows.dataset_id, path)

    def keys(self) -> set[str]:
        """The keys of all stored blobs."""
        return {key for batch in self.platform.blobs.all_keys() for key in batch}

    async def records(self) -> int:
        """The number of recorded releases."""
        async with self.rows.db.read() as connection:
            query = select(func.count()).select_from(ReleasedBlob)
            return int((await connection.execute(query)).scalar_one())


def with_free_share(settings: Settings, share: float) -> Settings:
    """Settings whose minimum of free space is that share of what is free now."""
    free = shutil.disk_usage(settings.storage_folder).free
    return settings.model_copy(update={"min_free_bytes": int(free * share)})


@pytest.fixture
async def short(settings: Settings) -> AsyncIterator[ShortDisk]:
    async with open_platform(with_free_share(settings, 0.5), application="tests") as platform:
        yield ShortDisk(
            platform, await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
        )


async def test_removed_and_replaced_contents_go_at_once(short: ShortDisk) -> None:
    await short.entry("removed")
    await short.entry("replaced")
    await short.derivative("5a")
    await short.entry("source", "5a")
    kept = {await short.entry("replaced"), await short.entry("kept")}
    await short.remove("removed")
    await short.remove("source")

    await short.platform.maintenance.free_space()

    assert short.keys() == kept
    assert await short.records() == 0


async def test_the_files_of_a_deleted_dataset_go_at_once(short: ShortDisk) -> None:
    owner = Caller(short.rows.user_id, "owner")
    await short.entry("a")
    upload = await short.platform.uploads.create(
        owner, "acme", "acme", path="b", size_bytes=10, client_metadata=""
    )
    await short.platform.uploads.append(
        always(owner), "acme", "acme", upload.row.id, offset=0, content=chunks(b"part"), announced_bytes=4
    )
    folder = short.platform.uploads.files.folder
    await short.platform.maintenance.free_space()
    assert [file.name for file in folder.iterdir()] == [str(upload.row.id)]

    await short.platform.datasets.delete_dataset(owner, "acme", "acme")
    await short.platform.maintenance.free_space()

    assert (short.keys(), list(folder.iterdir())) == (set(), [])


async def test_what_may_still_be_needed_stays(short: ShortDisk) -> None:
    shared, read = await short.entry("one"), await short.entry("input")
    await short.put("copy", shared)
    await short.rows.task(inputs=[TaskInputRow("input", "00", read)])
    uploaded = await short.stored()  # its row isn't committed yet
    found = await short.stored()  # by a sweep, as it is beside a database that doesn't know it
    await seen_unnamed(short.rows.db, [found], ago_s=60)
    await short.remove("one")
    await short.remove("input")

    await short.platform.maintenance.free_space()

    assert short.keys() == {shared, read, uploaded, found}


async def test_a_running_download_reads_to_its_end(short: ShortDisk) -> None:
    key = await short.entry("a")
    opened = await short.platform.blobs.open(key, size_bytes=7)
    pinned = await pin_blobs(short.platform.blobs)
    await pinned.add([key])
    await short.remove("a")

    await short.platform.maintenance.free_space()

    assert short.keys() == set()
    assert b"".join([chunk async for chunk in opened.chunks(0, 7)]) == b"content"
    assert (pinned.folder / key).read_bytes() == b"content"
    await opened.close()
    await pinned.release()


async def test_a_removal_that_is_rolled_back_frees_nothing(short: ShortDisk) -> None:
    key = await short.entry("a")

    async def remove_in_vain() -> None:
        async with short.rows.db.begin() as connection:
            await entry_writes.remove_within(connection, short.rows.dataset_id, "a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await remove_in_vain()
    await short.platform.maintenance.free_space()
    assert short.keys() == {key}


async def test_nothing_goes_at_once_beside_a_foreign_storage(short: ShortDisk) -> None:
    key = await short.entry("a")
    await short.remove("a")
    (short.platform.settings.storage_folder / "installation").write_text(str(new_id()))
    with pytest.raises(StorageMismatch):
        await short.platform.maintenance.free_space()
    assert short.keys() == {key}


async def test_a_database_that_adopts_a_storage_forgets_what_it_released(short: ShortDisk) -> None:
    key = await short.entry("a")
    await short.remove("a")
    (short.platform.settings.storage_folder / "installation").unlink()
    await short.platform.installation.join(adopt=True)
    await short.platform.maintenance.free_space()
    assert short.keys() == {key}


async def test_contents_stay_for_the_grace_time_while_there_is_space(settings: Settings) -> None:
    async with open_platform(
        settings.model_copy(update={"min_free_bytes": 0}), application="tests"
    ) as platform:
        roomy = ShortDisk(
            platform, await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
        )
        key = await roomy.entry("a")
        await roomy.remove("a")
        assert await platform.maintenance.free_space() == 0
        assert await platform.maintenance.remove_orphans() == 0
        assert roomy.keys() == {key}


async def test_a_full_storage_refuses_what_needs_space_and_nothing_else(settings: Settings) -> None:
    stored = await LocalBlobs(settings.storage_folder, min_free_bytes=0).put(chunks(b"a"), limit_bytes=1)
    async with served(settings.model_copy(update={"min_free_bytes": EXBIBYTE})) as api:
        async with api.platform.db.begin() as connection:
            content = EntryContent(stored.key, stored.sha256, 1, "generic")
            await entry_writes.put_file(connection, api.rows.dataset_id, "a.txt", content)
        client, address = api.client, "/orgs/acme/ds/acme"
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}
        announcement = {**tus, "Upload-Metadata": f"path {b64encode(b'b.txt').decode()}"}
        for answer in (
            await client.put(f"{address}/obj/b.txt", content=b"b"),
            await client.post(f"{address}/obj", data={"path": "b.txt"}, files={"file": b"b"}),
            await client.post(f"{address}/uploads", headers=announcement),
            await client.post(f"{address}/tasks", json={"toolId": "bulk-download"}),
        ):
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["noRetry"]) == (507, "disk-full", False)
            assert int(answer.headers["retry-after"]) > 0
        rescan = await client.post(f"{address}/tasks", json={"toolId": "rescan-index"})
        assert rescan.status_code == 202
        ready = (await client.get("/readyz")).json()
        assert ready["storage"] == "full"
        assert "aerotask_storage_full 1.0" in (await client.get("/metrics")).text
        assert (await client.get(f"{address}/obj/a.txt")).content == b"a"
        assert (await client.delete(f"{address}/obj/a.txt")).is_success

"""Pinned blobs stay readable, and their folder is visibly in use."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.storage import new_storage

from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.pinned import pin_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return new_storage(tmp_path)


async def stored(blobs: LocalBlobs, content: bytes) -> str:
    file = blobs.work_root / "made"
    file.write_bytes(content)
    return (await blobs.ingest(file)).key


async def test_a_removed_blob_is_readable_until_it_is_unpinned(blobs: LocalBlobs) -> None:
    key = await stored(blobs, b"content")
    pinned = await pin_blobs(blobs)
    await pinned.add([key, key])  # two entries may share a content
    await blobs.remove(key)

    content = await pinned.open(key)
    assert [chunk async for chunk in content.chunks(0, content.size_bytes)] == [b"content"]
    await content.close()

    await pinned.release()
    assert list(blobs.work_root.iterdir()) == []


async def test_a_missing_blob_cannot_be_pinned(blobs: LocalBlobs) -> None:
    pinned = await pin_blobs(blobs)
    with pytest.raises(FileNotFoundError):
        await pinned.add(["missing"])
    await pinned.release()


async def test_the_folder_is_touched_while_it_is_in_use(blobs: LocalBlobs) -> None:
    pinned = await pin_blobs(blobs, refresh_s=0.01)
    os.utime(pinned.folder, (0, 0))
    async with asyncio.timeout(30):
        while pinned.folder.stat().st_mtime == 0:  # noqa: ASYNC110  a file system has no event
            await asyncio.sleep(0.01)
    await pinned.release()

"""Blobs that are held stay readable, and the sweep can see that somebody holds them."""

import asyncio
import os
from pathlib import Path

import pytest

from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.pinned import hold


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path)


async def stored(blobs: LocalBlobs, content: bytes) -> str:
    file = blobs.work_root / "made"
    file.write_bytes(content)
    return (await blobs.adopt(file)).key


async def test_a_blob_that_is_removed_meanwhile_is_readable_until_it_is_let_go(blobs: LocalBlobs) -> None:
    key = await stored(blobs, b"content")
    held = await hold(blobs)
    await held.add([key, key])  # two entries may share a content
    await blobs.remove(key)

    content = await held.open(key)
    assert [piece async for piece in content.chunks(0, content.size_bytes)] == [b"content"]
    await content.close()

    await held.let_go()
    assert list(blobs.work_root.iterdir()) == []


async def test_a_blob_that_is_gone_cannot_be_held(blobs: LocalBlobs) -> None:
    held = await hold(blobs)
    with pytest.raises(FileNotFoundError):
        await held.add(["gone"])
    await held.let_go()


async def test_the_folder_looks_used_for_as_long_as_it_is(blobs: LocalBlobs) -> None:
    held = await hold(blobs, freshen_s=0.01)
    os.utime(held.folder, (0, 0))
    async with asyncio.timeout(30):
        while held.folder.stat().st_mtime == 0:  # noqa: ASYNC110  a file system has no event
            await asyncio.sleep(0.01)
    await held.let_go()

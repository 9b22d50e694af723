"""Local file cache: files exist while in use, and are cached for a limited time afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.support.storage import new_storage

from aerotask.blobs.local import LocalBlobs
from aerotask.domain.errors import Unavailable
from aerotask.tiles.local_files import CacheLimits, LocalFileCache


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return new_storage(tmp_path)


async def stored(blobs: LocalBlobs, content: bytes) -> str:
    file = blobs.work_root / "made"
    file.write_bytes(content)
    return (await blobs.ingest(file)).key


@asynccontextmanager
async def open_cache(blobs: LocalBlobs, **limits: float) -> AsyncIterator[LocalFileCache]:
    files = LocalFileCache(blobs, CacheLimits(**limits))  # type: ignore[arg-type]
    try:
        yield files
    finally:
        await files.close()


def cached(blobs: LocalBlobs) -> list[bytes]:
    """The contents of the cached files."""
    return sorted(file.read_bytes() for file in blobs.work_root.glob("draw-*/*"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  a file system has no event
            await asyncio.sleep(0.005)


async def test_a_file_outlasts_its_blob_while_in_use(blobs: LocalBlobs) -> None:
    key = await stored(blobs, b"content")
    async with open_cache(blobs) as files:
        async with files.file(key) as file:
            await blobs.remove(key)
            assert file.read_bytes() == b"content"
        async with files.file(key) as again:
            assert again == file
    assert cached(blobs) == []


async def test_a_missing_blob_is_an_outage(blobs: LocalBlobs) -> None:
    async with open_cache(blobs) as files:
        with pytest.raises(Unavailable):
            async with files.file("absent"):
                pass
        key = await stored(blobs, b"content")
        async with files.file(key) as file:
            assert file.read_bytes() == b"content"


async def test_the_least_recently_used_files_are_evicted_first(blobs: LocalBlobs) -> None:
    keys = [await stored(blobs, b"%d" % number) for number in range(4)]
    async with open_cache(blobs, files=2) as files:
        for key in (*keys, keys[2]):
            async with files.file(key):
                pass
        assert cached(blobs) == [b"2", b"3"]


async def test_files_in_use_count_and_are_not_evicted(blobs: LocalBlobs) -> None:
    keys = [await stored(blobs, b"%d" % number) for number in range(4)]
    async with open_cache(blobs, files=2) as files:
        async with AsyncExitStack() as using:
            paths = [await using.enter_async_context(files.file(key)) for key in keys[:3]]
            async with files.file(keys[3]):
                pass
            assert [path.read_bytes() for path in paths] == [b"0", b"1", b"2"]
            assert cached(blobs) == [b"0", b"1", b"2"]
        assert len(cached(blobs)) == 2


async def test_unused_files_are_bounded_in_total_size(blobs: LocalBlobs) -> None:
    small, large = await stored(blobs, b"small"), await stored(blobs, b"x" * 1000)
    async with open_cache(blobs, total_bytes=100) as files:
        async with files.file(small):
            pass
        async with files.file(large) as file:
            assert file.stat().st_size == 1000
        assert b"x" * 1000 not in cached(blobs)


async def test_unused_files_expire(blobs: LocalBlobs) -> None:
    key, other = await stored(blobs, b"content"), await stored(blobs, b"in use")
    async with open_cache(blobs, ttl_s=0.05) as files, files.file(other) as in_use:
        async with files.file(key):
            pass
        await until(lambda: cached(blobs) == [b"in use"])
        assert in_use.exists()


async def test_each_entry_has_its_own_file_name(blobs: LocalBlobs) -> None:
    # Otherwise a late eviction could unlink the next entry's file.
    key = await stored(blobs, b"content")
    async with open_cache(blobs, files=0) as files:
        async with files.file(key) as first:
            pass
        async with files.file(key) as second:
            assert (first.exists(), second.exists(), first == second) == (False, True, False)


async def test_every_user_has_the_file_while_others_acquire_and_release_it(blobs: LocalBlobs) -> None:
    keys = [await stored(blobs, b"%d" % number) for number in range(3)]
    async with open_cache(blobs, files=1) as files:

        async def use(number: int) -> bool:
            async with files.file(keys[number % 3]) as file:
                await asyncio.sleep(0)
                return await asyncio.to_thread(file.read_bytes) == b"%d" % (number % 3)

        async def user(first: int) -> list[bool]:
            return [await use(first + number) for number in range(30)]

        assert all(map(all, await asyncio.gather(*map(user, range(8)))))


async def test_a_removed_folder_is_recreated(blobs: LocalBlobs) -> None:
    key = await stored(blobs, b"content")
    async with open_cache(blobs) as files:
        async with files.file(key) as file:
            pass
        file.unlink()
        file.parent.rmdir()
        async with files.file(key) as file:
            assert file.read_bytes() == b"content"

"""Local blob store: streams and files are stored durably, hashed and read back."""

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.storage import new_storage

from aerotask.blobs.blob_store import Blob
from aerotask.blobs.local import LocalBlobs
from aerotask.blobs.storage_root import MARKER
from aerotask.domain.errors import TooLarge

NO_LIMIT = 10**9


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return new_storage(tmp_path)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def content_of(blobs: LocalBlobs, blob: Blob) -> bytes:
    opened = await blobs.open(blob.key, size_bytes=blob.size_bytes)
    try:
        return b"".join([chunk async for chunk in opened.chunks(0, opened.size_bytes)])
    finally:
        await opened.close()


def files(folder: Path) -> list[Path]:
    """The files of a storage, besides its marker."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]


async def test_a_stream_is_stored_hashed_and_read_back(blobs: LocalBlobs) -> None:
    chunks = [os.urandom(300_000) for _ in range(10)]
    blob = await blobs.put(stream(*chunks), limit_bytes=NO_LIMIT)
    assert blob.size_bytes == 3_000_000
    assert blob.sha256 == hashlib.sha256(b"".join(chunks)).hexdigest()
    assert await content_of(blobs, blob) == b"".join(chunks)


async def test_an_empty_stream_is_a_blob(blobs: LocalBlobs) -> None:
    blob = await blobs.put(stream(), limit_bytes=NO_LIMIT)
    assert (blob.size_bytes, await content_of(blobs, blob)) == (0, b"")


async def test_part_of_a_blob_can_be_read(blobs: LocalBlobs) -> None:
    blob = await blobs.put(stream(b"0123456789"), limit_bytes=NO_LIMIT)
    opened = await blobs.open(blob.key, size_bytes=blob.size_bytes)
    assert [chunk async for chunk in opened.chunks(2, 5)] == [b"234"]
    await opened.close()


async def test_a_stream_beyond_the_limit_leaves_nothing(blobs: LocalBlobs, tmp_path: Path) -> None:
    await blobs.put(stream(b"x" * 100), limit_bytes=100)
    with pytest.raises(TooLarge):
        await blobs.put(stream(b"x" * 101), limit_bytes=100)
    assert len(files(tmp_path)) == 1


async def test_a_stream_that_breaks_off_leaves_nothing(blobs: LocalBlobs, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await blobs.put(broken(), limit_bytes=NO_LIMIT)
    assert files(tmp_path) == []


async def test_a_cancelled_upload_leaves_nothing(blobs: LocalBlobs, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 2_000_000
            begun.set()
            await asyncio.sleep(0)

    upload = asyncio.create_task(blobs.put(endless(), limit_bytes=NO_LIMIT))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert files(tmp_path) == []


async def test_a_blob_is_read_only_on_disk(blobs: LocalBlobs, tmp_path: Path) -> None:
    await blobs.put(stream(b"x"), limit_bytes=NO_LIMIT)
    [file] = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o444


async def test_a_finished_file_is_ingested(blobs: LocalBlobs) -> None:
    made = blobs.work_root / "made.tif"
    made.write_bytes(b"made")
    blob = await blobs.ingest(made)
    assert (blob.size_bytes, blob.sha256) == (4, hashlib.sha256(b"made").hexdigest())
    assert await content_of(blobs, blob) == b"made"
    assert not made.exists()


async def test_links_and_folders_are_not_ingested(blobs: LocalBlobs, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    link = blobs.work_root / "link"
    link.symlink_to(secret)
    for path in (link, blobs.work_root):
        with pytest.raises(OSError, match="regular files"):
            await blobs.ingest(path)
    assert secret.read_bytes() == b"secret"


async def test_a_file_with_another_hard_link_is_ingested_as_a_copy(blobs: LocalBlobs) -> None:
    blob = await blobs.put(stream(b"shared"), limit_bytes=NO_LIMIT)
    linked = blobs.work_root / "linked"
    await blobs.link_to(blob.key, linked)

    ingested = await blobs.ingest(linked)
    await blobs.remove(ingested.key)

    assert ingested.sha256 == blob.sha256
    assert await content_of(blobs, blob) == b"shared"


@pytest.mark.parametrize("count", [0, 1, 200])
async def test_many_finished_files_are_ingested_in_their_order(blobs: LocalBlobs, count: int) -> None:
    made = [blobs.work_root / f"{number}" for number in range(count)]
    for number, file in enumerate(made):
        file.write_bytes(b"%d" % number)
    ingested = await blobs.ingest_all(made)
    assert [blob.sha256 for blob in ingested] == [
        hashlib.sha256(b"%d" % number).hexdigest() for number in range(count)
    ]
    assert [await content_of(blobs, blob) for blob in ingested] == [b"%d" % n for n in range(count)]
    assert not any(file.exists() for file in made)


async def test_one_link_among_many_files_fails_them_all(blobs: LocalBlobs, tmp_path: Path) -> None:
    secret, file, link = tmp_path / "secret", blobs.work_root / "file", blobs.work_root / "link"
    secret.write_bytes(b"secret")
    file.write_bytes(b"file")
    link.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        await blobs.ingest_all([file, link])
    assert secret.read_bytes() == b"secret"
    assert [path for path in files(tmp_path) if "blobs" in path.parts] == []


async def test_an_input_among_the_outputs_is_ingested_as_a_copy(blobs: LocalBlobs) -> None:
    blob = await blobs.put(stream(b"shared"), limit_bytes=NO_LIMIT)
    linked = blobs.work_root / "linked"
    await blobs.link_to(blob.key, linked)
    [ingested] = await blobs.ingest_all([linked])
    await blobs.remove(ingested.key)
    assert (ingested.sha256, await content_of(blobs, blob)) == (blob.sha256, b"shared")


async def test_a_known_hash_is_not_computed_again(blobs: LocalBlobs) -> None:
    made = blobs.work_root / "made.zip"
    made.write_bytes(b"made")
    assert (await blobs.ingest(made, sha256="ab" * 32)).sha256 == "ab" * 32


async def test_many_blobs_are_linked_at_once_into_new_folders(blobs: LocalBlobs) -> None:
    keys = [(await blobs.put(stream(b"%d" % n), limit_bytes=NO_LIMIT)).key for n in range(3)]
    linked = [blobs.work_root / "in" / f"folder-{n % 2}" / f"{n}.txt" for n in range(3)]
    await blobs.link_all_to(list(zip(keys, linked, strict=True)))
    assert [file.read_bytes() for file in linked] == [b"0", b"1", b"2"]


async def test_a_linked_file_outlives_its_blob(blobs: LocalBlobs) -> None:
    blob = await blobs.put(stream(b"linked"), limit_bytes=NO_LIMIT)
    linked = blobs.work_root / "input.tif"
    await blobs.link_to(blob.key, linked)
    await blobs.remove(blob.key)
    assert linked.read_bytes() == b"linked"


async def test_an_open_blob_is_readable_to_its_end_after_its_removal(blobs: LocalBlobs) -> None:
    blob = await blobs.put(stream(b"x" * 1_000_000), limit_bytes=NO_LIMIT)
    opened = await blobs.open(blob.key, size_bytes=blob.size_bytes)
    await blobs.remove(blob.key)
    await blobs.remove(blob.key)
    assert sum([len(chunk) async for chunk in opened.chunks(0, opened.size_bytes)]) == 1_000_000
    await opened.close()
    with pytest.raises(FileNotFoundError):
        await blobs.open(blob.key, size_bytes=blob.size_bytes)


async def test_all_blobs_are_listed(blobs: LocalBlobs) -> None:
    keys = {(await blobs.put(stream(b"x"), limit_bytes=NO_LIMIT)).key for _ in range(5)}
    assert {key for batch in blobs.all_keys() for key in batch} == keys


async def test_old_partial_files_are_removed(blobs: LocalBlobs, tmp_path: Path) -> None:
    leftover = tmp_path / "partial" / "left"
    leftover.write_bytes(b"x")
    blobs.remove_partial(timedelta(hours=1))
    assert leftover.exists()
    os.utime(leftover, (0, 0))
    blobs.remove_partial(timedelta(hours=1))
    assert not leftover.exists()


async def test_a_file_that_is_being_received_stays_however_old_it_is(
    blobs: LocalBlobs, tmp_path: Path
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"first" * 500_000
        (partial,) = (tmp_path / "partial").iterdir()
        os.utime(partial, (0, 0))
        blobs.remove_partial(timedelta(hours=1))
        assert partial.exists()
        yield b"last"

    blob = await blobs.put(slow(), limit_bytes=NO_LIMIT)
    assert await content_of(blobs, blob) == b"first" * 500_000 + b"last"


async def test_the_age_of_a_file_doesnt_depend_on_the_clock_of_the_process(
    blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / "partial" / "left"
    leftover.write_bytes(b"x")
    (blobs.work_root / "work").mkdir()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    blobs.remove_partial(timedelta(hours=1))
    assert leftover.exists()
    assert blobs.work_older_than(timedelta(hours=1)) == []
    blobs.remove_partial(timedelta(seconds=-60))
    assert not leftover.exists()
    assert blobs.work_older_than(timedelta(seconds=-60)) == ["work"]


async def test_a_cancelled_open_leaves_no_descriptor(blobs: LocalBlobs, tmp_path: Path) -> None:
    fifo = tmp_path / "blobs" / "ey" / "slow-key"  # whose opening waits for a writer
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    opening = asyncio.create_task(blobs.open(fifo.name, size_bytes=0))
    async with asyncio.timeout(30):
        while (writer := writer_to(fifo)) is None:  # noqa: ASYNC110  the kernel has no event for it
            await asyncio.sleep(0.001)

        # The thread is blocked in open() when the caller is cancelled.
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        while is_read(writer):  # noqa: ASYNC110  nor for this
            await asyncio.sleep(0.001)
    os.close(writer)


def writer_to(fifo: Path) -> int | None:
    """The write end, if the read end is being opened."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def is_read(writer: int) -> bool:
    """Whether the read end is open."""
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        return False
    except BlockingIOError:
        return True
    return True

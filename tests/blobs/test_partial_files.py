"""Partial files: one writer at a time, and a reliable length."""

import asyncio
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.storage import new_storage

from aerotask.blobs.partial_files import IDLE_TIMEOUT_S, MAX_CACHED_DIGESTS, PartialFiles
from aerotask.blobs.storage_root import StorageRoot
from aerotask.domain.errors import Locked, TooLarge
from aerotask.domain.ids import new_id

MIB = 1024 * 1024
HOUR = timedelta(hours=1)


@pytest.fixture
def files(tmp_path: Path) -> PartialFiles:
    return new_partial_files(tmp_path)


def new_partial_files(root: Path, *, idle_timeout_s: float = IDLE_TIMEOUT_S) -> PartialFiles:
    new_storage(root)
    return PartialFiles(StorageRoot(root), idle_timeout_s)


async def chunks(*content: bytes) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk


async def broken(*content: bytes) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk
    raise ConnectionError("the client is gone")


async def append(files: PartialFiles, key: str, *content: bytes, up_to: int = 100 * MIB) -> str:
    """Append the content; returns the hash of the whole file."""
    async with files.locked(key) as file:
        await file.append(chunks(*content), up_to_bytes=up_to)
        return await file.sha256()


async def test_a_file_grows_from_nothing(files: PartialFiles) -> None:
    assert await files.size_bytes("k") == 0
    await append(files, "k", b"abc", b"def")
    assert await files.size_bytes("k") == 6
    assert await append(files, "k", b"ghi") == hashlib.sha256(b"abcdefghi").hexdigest()
    assert (files.folder / "k").read_bytes() == b"abcdefghi"


@given(parts=st.lists(st.lists(st.binary(max_size=50), max_size=4), max_size=4), restarts=st.booleans())
@settings(max_examples=30, deadline=None)
def test_content_and_hash_are_the_concatenation_of_all_parts(
    parts: list[list[bytes]], *, restarts: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def grow() -> tuple[bytes, str]:
        files = new_partial_files(tmp_path_factory.mktemp("storage"))
        for part in parts:
            await append(files, "k", *part)
            if restarts:
                files = PartialFiles(files.root)
        digest = await append(files, "k")
        return (files.folder / "k").read_bytes(), digest

    whole = b"".join(b"".join(part) for part in parts)
    assert asyncio.run(grow()) == (whole, hashlib.sha256(whole).hexdigest())


async def test_a_process_that_did_not_receive_the_beginning_reads_it_for_the_hash(
    files: PartialFiles,
) -> None:
    await append(files, "k", b"abc")
    other = PartialFiles(files.root)
    await append(other, "k", b"def")
    assert await append(files, "k", b"ghi") == hashlib.sha256(b"abcdefghi").hexdigest()


async def test_bytes_received_before_a_broken_connection_are_kept(files: PartialFiles) -> None:
    content = os.urandom(2 * MIB + 100)
    async with files.locked("k") as file:
        with pytest.raises(ConnectionError):
            await file.append(broken(content, b"xyz"), up_to_bytes=100 * MIB)
    assert await files.size_bytes("k") == 2 * MIB + 103
    assert await append(files, "k") == hashlib.sha256(content + b"xyz").hexdigest()


async def test_a_chunk_beyond_the_announced_length_is_not_written(files: PartialFiles) -> None:
    async with files.locked("k") as file:
        with pytest.raises(TooLarge):
            await file.append(chunks(b"abc", b"def"), up_to_bytes=5)
    assert (files.folder / "k").read_bytes() == b"abc"


async def test_an_idle_client_times_out_and_its_bytes_are_kept(tmp_path: Path) -> None:
    files = new_partial_files(tmp_path, idle_timeout_s=0.05)

    async def silent() -> AsyncIterator[bytes]:
        yield b"abc"
        await asyncio.Event().wait()

    async with files.locked("k") as file:
        with pytest.raises(TimeoutError):
            await file.append(silent(), up_to_bytes=10)
    assert await append(files, "k", b"def") == hashlib.sha256(b"abcdef").hexdigest()


async def test_a_cancelled_writer_finishes_its_chunk_and_releases_the_lock(files: PartialFiles) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        begun.set()
        await asyncio.Event().wait()

    async def write() -> None:
        async with files.locked("k") as file:
            await file.append(endless(), up_to_bytes=10 * MIB)

    writing = asyncio.create_task(write())
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await append(files, "k", b"y") == hashlib.sha256(b"x" * MIB + b"y").hexdigest()


async def test_a_second_writer_is_rejected_until_the_first_is_done(files: PartialFiles) -> None:
    other = PartialFiles(files.root)
    async with files.locked("k"):
        for folder in (files, other):
            with pytest.raises(Locked):
                async with folder.locked("k"):
                    pass
        async with other.locked("another"):
            pass
    assert await append(other, "k", b"abc") == hashlib.sha256(b"abc").hexdigest()


KILLED = """
import asyncio, sys
from pathlib import Path
from aerotask.blobs.partial_files import PartialFiles
from aerotask.blobs.storage_root import StorageRoot

async def content():
    yield b"x" * 1024 * 1024
    yield b"y" * 1024 * 1024
    print("written", flush=True)
    await asyncio.Event().wait()

async def main():
    async with PartialFiles(StorageRoot(Path(sys.argv[1]))).locked("k") as file:
        await file.append(content(), up_to_bytes=10**9)

asyncio.run(main())
"""


async def test_a_writer_that_is_killed_leaves_its_bytes_and_no_lock(files: PartialFiles) -> None:
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(files.root.path), stdout=subprocess.PIPE
    )
    assert victim.stdout is not None
    assert await victim.stdout.readline() == b"written\n"
    with pytest.raises(Locked):
        async with files.locked("k"):
            pass
    victim.kill()
    assert await victim.wait() == -signal.SIGKILL
    size_bytes = await files.size_bytes("k")
    # The first chunk was written before the second was requested; of the second, any part may be.
    assert MIB <= size_bytes <= 2 * MIB
    whole = (b"x" * MIB + b"y" * MIB)[:size_bytes]
    assert await append(files, "k", b"z") == hashlib.sha256(whole + b"z").hexdigest()


async def test_a_removed_file_starts_empty_again(files: PartialFiles) -> None:
    await append(files, "k", b"abc")
    await files.remove("k")
    await files.remove("k")
    assert await files.size_bytes("k") == 0
    assert await append(files, "k", b"def") == hashlib.sha256(b"def").hexdigest()


async def test_the_number_of_cached_hashes_is_bounded(files: PartialFiles) -> None:
    for number in range(MAX_CACHED_DIGESTS + 5):
        async with files.locked(str(number)):
            pass
    assert len(files._digests) == MAX_CACHED_DIGESTS


async def test_idle_files_are_those_neither_locked_nor_recently_written(files: PartialFiles) -> None:
    old, held, young = (str(new_id()) for _ in range(3))
    for key in (old, held, young, "lost+found"):
        await append(files, key, b"x")
    then = time.time() - 2 * HOUR.total_seconds()
    for key in (old, held, "lost+found"):
        os.utime(files.folder / key, (then, then))
    async with files.locked(held):
        assert list(files.idle_keys(HOUR)) == [old]


async def test_a_complete_file_becomes_a_blob_and_stays_until_it_is_removed(
    files: PartialFiles, tmp_path: Path
) -> None:
    blobs = new_storage(tmp_path)
    sha256 = await append(files, "k", b"abc")
    shared = [await blobs.ingest_copy(files.folder / "k", sha256=sha256) for _ in range(2)]
    assert {(blob.sha256, blob.size_bytes) for blob in shared} == {(sha256, 3)}
    await blobs.remove(shared[0].key)
    assert await append(files, "k") == sha256
    await files.remove("k")
    opened = await blobs.open(shared[1].key, size_bytes=shared[1].size_bytes)
    assert b"".join([chunk async for chunk in opened.chunks(0, 3)]) == b"abc"
    await opened.close()
    blob = tmp_path / "blobs" / shared[1].key[-2:] / shared[1].key
    assert not blob.stat().st_mode & 0o222


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from aerotask.blobs.partial_files import PartialFiles
from aerotask.blobs.storage_root import StorageRoot

async def content():
    for _ in range(4):
        yield b"x" * 1024 * 1024

async def main():
    async with PartialFiles(StorageRoot(Path(sys.argv[1]))).locked("k") as file:
        await file.append(content(), up_to_bytes=10**9)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
try:
    asyncio.run(main())
except OSError as error:
    print(error.errno)
"""


async def test_a_full_disk_keeps_the_bytes_that_fitted(files: PartialFiles) -> None:
    full = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL, str(files.root.path), stdout=subprocess.PIPE
    )
    output, _ = await full.communicate()
    assert int(output) == errno.EFBIG
    assert await files.size_bytes("k") == 1_500_000
    assert await append(files, "k", b"y") == hashlib.sha256(b"x" * 1_500_000 + b"y").hexdigest()

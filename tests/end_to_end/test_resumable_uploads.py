"""Resumable uploads with a published client (tuspy), while the API is killed, frozen and restarted."""

import hashlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import psutil
import pytest
from tests.conftest import StackFactory
from tests.support.processes import restart_api
from tests.support.world import Dataset, World, eventually
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed
from tusclient.uploader.uploader import Uploader

MIB = 1024 * 1024
SIZE_BYTES = 10 * MIB + 512 * 1024 + 7


@pytest.fixture(scope="module")
def harbour(make_stack: StackFactory) -> Iterator[World]:
    """A stack whose API the tests may kill; nothing here needs a worker."""
    with make_stack(workers=0) as world:
        yield world


@pytest.fixture
def dataset(harbour: World) -> Dataset:
    return harbour.dataset()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[BinaryIO]:
    """An open file of ten and a half megabytes; the client never closes files that it opens by name."""
    path = tmp_path / "source.bin"
    path.write_bytes(os.urandom(SIZE_BYTES))
    with path.open("rb") as file:
        yield file


def client_of(dataset: Dataset) -> TusClient:
    headers = {"Authorization": dataset.client.headers["Authorization"]}
    return TusClient(f"{str(dataset.client.base_url).rstrip('/')}{dataset.address}/uploads", headers=headers)


def uploader(dataset: Dataset, source: BinaryIO, *, url: str | None = None, chunk: int = MIB) -> Uploader:
    return client_of(dataset).uploader(
        file_stream=source, url=url, chunk_size=chunk, metadata={"path": "clouds/source.bin"}
    )


def assert_arrived(dataset: Dataset, source: BinaryIO) -> None:
    entry = dataset.entry("clouds/source.bin")
    source.seek(0)
    content = source.read()
    assert (entry["size"], entry["hash"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert dataset.client.get(f"{dataset.address}/obj/clouds/source.bin").content == content


@pytest.mark.parametrize("chunk", [MIB, 3_333_333, 64 * MIB])
def test_a_file_arrives_whatever_the_size_of_its_parts(
    dataset: Dataset, source: BinaryIO, chunk: int
) -> None:
    uploader(dataset, source, chunk=chunk).upload()
    assert_arrived(dataset, source)


def test_an_abandoned_upload_is_resumed_by_another_client(dataset: Dataset, source: BinaryIO) -> None:
    first = uploader(dataset, source)
    first.upload(stop_at=4 * MIB)
    second = uploader(dataset, source, url=first.url)
    assert second.offset == 4 * MIB
    second.upload()
    assert_arrived(dataset, source)


@pytest.mark.parametrize("armed", ["upload-written:kill@3", "upload-synced:kill@3", "blob-renamed:kill@1"])
def test_an_upload_resumes_after_the_api_was_killed(
    harbour: World, dataset: Dataset, source: BinaryIO, armed: str
) -> None:
    api = restart_api(harbour, failpoint=armed)
    begun = uploader(dataset, source)
    with pytest.raises((TusUploadFailed, TusCommunicationError)):
        begun.upload()
    assert api.wait(60) == -signal.SIGKILL

    restart_api(harbour)
    resumed = uploader(dataset, source, url=begun.url)
    # No confirmed byte is lost, and bytes written before the process died count too.
    assert resumed.offset >= begun.offset
    assert (resumed.offset - begun.offset) in {0, MIB, SIZE_BYTES - begun.offset}
    resumed.upload()
    assert_arrived(dataset, source)


def test_a_part_interrupted_by_a_kill_resumes_at_its_true_offset(
    harbour: World, dataset: Dataset, source: BinaryIO
) -> None:
    api = restart_api(harbour, failpoint="upload-written:kill@6")
    begun = uploader(dataset, source, chunk=64 * MIB)
    with pytest.raises((TusUploadFailed, TusCommunicationError)):
        begun.upload()
    assert api.wait(60) == -signal.SIGKILL
    restart_api(harbour)
    resumed = uploader(dataset, source, url=begun.url, chunk=64 * MIB)
    assert 6 * MIB <= resumed.offset < 8 * MIB
    resumed.upload()
    assert_arrived(dataset, source)


def test_an_upload_of_many_megabytes_does_not_fill_the_memory(
    harbour: World, dataset: Dataset, tmp_path: Path
) -> None:
    """192 MiB in one part here; `benchmarks/upload.py` shows 2 GiB."""
    size_bytes = 192 * MIB
    sparse = tmp_path / "sparse.bin"
    sparse.touch()
    os.truncate(sparse, size_bytes)
    api = psutil.Process(restart_api(harbour).pid)
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
        "Upload-Length": str(size_bytes),
        "Upload-Metadata": "path YmlnLmJpbg==",
    }
    before = highest = api.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.01):
            highest = max(highest, api.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with sparse.open("rb") as file:
            answer = dataset.client.post(f"{dataset.address}/uploads", headers=headers, content=file)
    finally:
        done.set()
        watcher.join()
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(size_bytes))
    assert dataset.entry("big.bin")["size"] == size_bytes
    assert highest - before < 48 * MIB


def test_uploads_continue_during_a_graceful_restart_of_the_api(
    harbour: World, dataset: Dataset, source: BinaryIO
) -> None:
    begun = uploader(dataset, source)
    begun.upload(stop_at=3 * MIB)
    assert harbour.stack.api is not None
    harbour.stack.api.terminate()
    harbour.stack.api.wait(60)
    restart_api(harbour)
    eventually(lambda: begun.get_offset() == 3 * MIB)
    begun.upload()
    assert_arrived(dataset, source)

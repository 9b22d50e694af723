"""Uploads, lists and downloads over HTTP."""

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.conftest import StackFactory
from tests.support.world import Dataset, World, eventually

MIB = 1024 * 1024


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


def test_a_raw_upload_returns_the_entry(dataset: Dataset) -> None:
    answer = dataset.client.put(f"{dataset.address}/obj/a/b/notes.md", content=b"# Notes\n")
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{dataset.address}/obj/a/b/notes.md"
    entry = answer.json()
    assert entry["path"] == "a/b/notes.md"
    assert entry["hash"] == hashlib.sha256(b"# Notes\n").hexdigest()
    assert (entry["type"], entry["size"], entry["depth"], entry["indexed"]) == ("markdown", 8, 2, False)
    assert dataset.paths() == ["a", "a/b", "a/b/notes.md"]


@pytest.mark.parametrize("path_first", [True, False])
def test_a_form_upload_accepts_fields_in_any_order(dataset: Dataset, *, path_first: bool) -> None:
    fields: list[tuple[str, tuple[str | None, bytes]]] = [
        ("path", (None, b"x/y.txt")),
        ("file", ("other-name.txt", b"content")),
    ]
    answer = dataset.client.post(f"{dataset.address}/obj", files=fields if path_first else fields[::-1])
    assert (answer.status_code, answer.json()["path"]) == (201, "x/y.txt")
    assert dataset.client.get(f"{dataset.address}/obj/x/y.txt").content == b"content"


@pytest.mark.parametrize("file_name", ["flight.txt", "/home/me/flight.txt", "C:\\me\\flight.txt"])
def test_a_form_without_a_path_takes_the_name_of_its_file(dataset: Dataset, file_name: str) -> None:
    answer = dataset.client.post(f"{dataset.address}/obj", files={"file": (file_name, b"content")})
    assert (answer.status_code, answer.json()["path"]) == (201, "flight.txt")


def test_a_form_without_a_file_creates_a_folder(dataset: Dataset) -> None:
    for _ in range(2):
        answer = dataset.client.post(f"{dataset.address}/obj", files={"path": (None, b"a/b")})
        assert (answer.status_code, answer.json()["type"], answer.json()["indexed"]) == (
            201,
            "directory",
            True,
        )
    assert dataset.paths() == ["a", "a/b"]


def test_a_form_without_a_path_is_refused_and_stores_nothing(world: World, dataset: Dataset) -> None:
    storage = Path(world.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://"))
    content = os.urandom(1000)
    answer = dataset.client.post(f"{dataset.address}/obj", files={"file": ("", content)})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-form")
    blobs = [file for file in (storage / "blobs").rglob("*") if file.is_file()]
    assert content not in [file.read_bytes() for file in blobs]
    assert not list((storage / "partial").iterdir())


def test_a_boundary_that_is_too_long_is_refused(dataset: Dataset) -> None:
    head = {"Content-Type": f"multipart/form-data; boundary={'b' * 257}"}
    answer = dataset.client.post(f"{dataset.address}/obj", content=b"--b", headers=head)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-form")


def test_a_second_upload_replaces_the_first(dataset: Dataset) -> None:
    dataset.upload("a.txt", b"one")
    dataset.upload("a.txt", b"two")
    assert dataset.paths() == ["a.txt"]
    assert dataset.client.get(f"{dataset.address}/obj/a.txt").content == b"two"


def test_a_file_cannot_contain_entries(dataset: Dataset) -> None:
    dataset.upload("a", b"file", indexed=False)
    below = dataset.client.put(f"{dataset.address}/obj/a/b.txt", content=b"x")
    folder = dataset.client.post(f"{dataset.address}/obj", files={"path": (None, b"a")})
    assert (below.status_code, below.json()["code"]) == (409, "entry-is-file")
    assert folder.status_code == 409
    dataset.client.post(f"{dataset.address}/obj", files={"path": (None, b"folder")})
    over = dataset.client.put(f"{dataset.address}/obj/folder", content=b"x")
    assert (over.status_code, over.json()["code"]) == (409, "entry-is-folder")


def test_lists_contain_a_folder_everything_below_it_or_one_file(dataset: Dataset) -> None:
    for path in ("b.txt", "a/one.txt", "a/sub/two.txt", "ab/three.txt", "a0.txt"):
        dataset.upload(path, b"x", indexed=False)

    def list_paths(**params: str) -> list[str]:
        answer = dataset.client.get(f"{dataset.address}/list", params=params)
        return [entry["path"] for entry in answer.json()]

    assert list_paths() == ["a", "a0.txt", "ab", "b.txt"]
    assert list_paths(path="a") == ["a/one.txt", "a/sub"]
    assert list_paths(path="a", recursive="true") == ["a/one.txt", "a/sub", "a/sub/two.txt"]
    assert list_paths(path="a/one.txt") == ["a/one.txt"]
    assert dataset.client.get(f"{dataset.address}/list", params={"path": "c"}).status_code == 404


def test_deleting_a_folder_removes_everything_below_it_and_nothing_else(dataset: Dataset) -> None:
    for path in ("a/one.txt", "a/sub/two.txt", "a0.txt", "a-b.txt"):
        dataset.upload(path, b"x", indexed=False)
    answer = dataset.client.delete(f"{dataset.address}/obj/a")
    assert sorted(answer.json()["removed"]) == ["a", "a/one.txt", "a/sub", "a/sub/two.txt"]
    assert dataset.paths() == ["a-b.txt", "a0.txt"]
    assert dataset.client.delete(f"{dataset.address}/obj/a").status_code == 404


def test_a_download_has_its_headers(dataset: Dataset) -> None:
    content = b"0123456789"
    entry = dataset.upload("Übung 1/Plan \u2014 A.txt", content)
    answer = dataset.client.get(f"{dataset.address}/obj/Übung 1/Plan \u2014 A.txt")
    assert answer.content == content
    assert answer.headers["etag"] == f'"{entry["hash"]}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == "10"
    assert answer.headers["content-type"].startswith("text/plain")
    assert (
        answer.headers["content-disposition"]
        == "attachment; filename=\"Plan _ A.txt\"; filename*=UTF-8''Plan%20%E2%80%94%20A.txt"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_equals_get_without_the_content(dataset: Dataset) -> None:
    dataset.upload("a.txt", b"0123456789")
    answer = dataset.client.head(f"{dataset.address}/obj/a.txt", headers={"range": "bytes=0-1"})
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "10")


def test_ranges_and_conditions(dataset: Dataset) -> None:
    tag = f'"{dataset.upload("a.txt", b"0123456789")["hash"]}"'

    def get(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return dataset.client.get(f"{dataset.address}/obj/a.txt", headers=named)

    part = get(range="bytes=2-4")
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert get(range="bytes=-3").content == b"789"
    assert get(range="lines=1").status_code == 200
    outside = get(range="bytes=10-")
    assert (outside.status_code, outside.headers["content-range"]) == (416, "bytes */10")
    assert outside.headers["content-type"] == "application/problem+json"
    unchanged = get(if_none_match=tag)
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    assert get(if_match='"other"').status_code == 412
    assert get(range="bytes=0-0", if_range='"other"').content == b"0123456789"


def test_several_ranges_are_sent_as_multipart(dataset: Dataset) -> None:
    dataset.upload("a.txt", b"0123456789")
    answer = dataset.client.get(f"{dataset.address}/obj/a.txt", headers={"range": "bytes=0-1,8-9"})
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", answer.headers["content-type"])
    assert answer.status_code == 206
    assert boundary is not None
    assert int(answer.headers["content-length"]) == len(answer.content)
    parts = answer.content.split(b"--" + boundary[1].encode())
    assert [part.split(b"\r\n\r\n")[1].strip() for part in parts[1:3]] == [b"01", b"89"]
    assert b"Content-Range: bytes 8-9/10" in parts[2]
    assert parts[3] == b"--\r\n"


def test_a_download_continues_when_its_entry_is_replaced(dataset: Dataset) -> None:
    first = os.urandom(8 * MIB)
    dataset.upload("a.bin", first, indexed=False)
    with dataset.client.stream("GET", f"{dataset.address}/obj/a.bin") as answer:
        pieces = answer.iter_raw(65536)
        received = next(pieces)
        dataset.seen_by(dataset.client).upload("a.bin", b"second", indexed=False)
        received += b"".join(pieces)
    assert received == first


def test_an_empty_file_is_a_file(dataset: Dataset) -> None:
    entry = dataset.upload("empty.txt", b"")
    assert (entry["size"], entry["hash"]) == (0, hashlib.sha256(b"").hexdigest())
    assert dataset.client.get(f"{dataset.address}/obj/empty.txt").content == b""


def test_a_file_beyond_the_limit_is_refused_and_leaves_nothing(make_stack: StackFactory) -> None:
    with make_stack(workers=0, max_object_bytes=str(MIB)) as small:
        dataset = small.dataset()
        storage = Path(small.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://"))
        exact = dataset.client.put(f"{dataset.address}/obj/a.bin", content=b"x" * MIB)
        beyond = dataset.client.put(f"{dataset.address}/obj/b.bin", content=b"x" * (MIB + 1))
        assert (exact.status_code, beyond.status_code) == (201, 413)
        assert dataset.paths() == ["a.bin"]
        assert sorted(file.parent.parent.name for file in storage.rglob("*/*") if file.is_file()) == ["blobs"]


def test_a_large_upload_needs_little_memory(world: World, dataset: Dataset) -> None:
    """256 MiB; `benchmarks/upload.py` measures 2 GiB."""
    api = psutil.Process(world.stack.api.pid if world.stack.api else 0)
    piece = os.urandom(MIB)
    before = api.memory_info().rss
    highest = before
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.01):
            highest = max(highest, api.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = dataset.client.put(f"{dataset.address}/obj/big.bin", content=(piece for _ in range(256)))
    finally:
        done.set()
        watcher.join()
    assert answer.json()["size"] == 256 * MIB
    assert answer.json()["hash"] == hashlib.sha256(piece * 256).hexdigest()
    assert highest - before < 48 * MIB


def test_an_aborted_upload_leaves_nothing(world: World, dataset: Dataset) -> None:
    storage = Path(world.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://"))

    def broken() -> Iterator[bytes]:
        yield b"x" * MIB
        raise ConnectionError("the client gave up")

    with pytest.raises(ConnectionError):
        dataset.client.put(f"{dataset.address}/obj/a.bin", content=broken())
    eventually(lambda: not list((storage / "partial").iterdir()))
    assert dataset.paths() == []

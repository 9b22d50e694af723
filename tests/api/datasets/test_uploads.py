"""Resumable uploads according to the tus protocol 1.0.0."""

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.world import Dataset, World, eventually

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
MIB = 1024 * 1024
LARGEST = 100 * 1024 * MIB


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


@pytest.fixture(scope="module")
def files(world: World) -> Path:
    """The folder of partial uploads, one file per id."""
    return Path(world.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://")) / "uploads"


def file_of(files: Path, address: str) -> Path:
    return files / address.rpartition("/")[2]


def metadata(**pairs: str) -> dict[str, str]:
    coded = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
    return {"Upload-Metadata": ",".join(coded)}


def announce(dataset: Dataset, path: str, length: int) -> str:
    """Creates an upload; returns its URL."""
    headers = {**TUS, "Upload-Length": str(length), **metadata(path=path)}
    answer = dataset.client.post(f"{dataset.address}/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def send(dataset: Dataset, address: str, offset: int, content: bytes) -> httpx.Response:
    return dataset.client.patch(address, headers={**BYTES, "Upload-Offset": str(offset)}, content=content)


def offset_of(dataset: Dataset, address: str) -> int:
    answer = dataset.client.head(address, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["upload-offset"])


def content_of(dataset: Dataset, path: str) -> bytes:
    return dataset.client.get(f"{dataset.address}/obj/{path}").raise_for_status().content


class Slow:
    """A part whose second half is sent when the test says so, by a separate client."""

    def __init__(self, client: httpx.Client, address: str, first: bytes, second: bytes) -> None:
        self._go = threading.Event()
        self._first, self._second = first, second
        self._answers: list[httpx.Response] = []
        length = str(len(first) + len(second))
        headers = {**BYTES, "Upload-Offset": "0", "Content-Length": length}
        self._thread = threading.Thread(
            target=lambda: self._answers.append(
                client.patch(address, headers=headers, content=self._pieces())
            )
        )
        self._thread.start()

    def _pieces(self) -> Iterator[bytes]:
        yield self._first
        self._go.wait()
        yield self._second

    def end(self) -> httpx.Response:
        self._go.set()
        self._thread.join()
        return self._answers[0]


def test_options_lists_version_and_extensions_without_login(dataset: Dataset) -> None:
    answer = dataset.client.options(f"{dataset.address}/uploads", headers={"Authorization": ""})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(LARGEST)
    assert answer.headers["tus-extension"] == "creation,creation-with-upload,termination,expiration"


def test_an_upload_in_three_parts_becomes_an_entry(dataset: Dataset, files: Path) -> None:
    content = os.urandom(3_000_000)
    address = announce(dataset, "flights/7/cloud.laz", len(content))
    assert offset_of(dataset, address) == 0
    for start in (0, 1_000_000, 2_000_000):
        answer = send(dataset, address, start, content[start : start + 1_000_000])
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["upload-offset"] == str(start + 1_000_000)
        assert answer.headers["tus-resumable"] == "1.0.0"
    listed = (dataset.client.get(f"{dataset.address}/list", params={"path": "flights/7"})).json()
    assert [(entry["path"], entry["hash"], entry["type"], entry["size"]) for entry in listed] == [
        ("flights/7/cloud.laz", hashlib.sha256(content).hexdigest(), "pointCloud", 3_000_000)
    ]
    assert content_of(dataset, "flights/7/cloud.laz") == content
    assert not file_of(files, address).exists()


def test_head_returns_the_announcement_and_is_not_cached(dataset: Dataset) -> None:
    upload_metadata = metadata(path="a.txt", owner="Zoë")["Upload-Metadata"] + ",empty"
    headers = {**TUS, "Upload-Length": "10", "Upload-Metadata": upload_metadata}
    address = (dataset.client.post(f"{dataset.address}/uploads", headers=headers)).headers["location"]
    answer = dataset.client.head(address, headers=TUS)
    assert answer.headers["upload-length"] == "10"
    assert answer.headers["upload-offset"] == "0"
    assert answer.headers["upload-metadata"] == upload_metadata
    assert answer.headers["cache-control"] == "no-store"


def test_head_shows_a_complete_upload_whose_last_response_was_lost(dataset: Dataset) -> None:
    address = announce(dataset, "a.txt", 5)
    send(dataset, address, 0, b"hello")
    assert offset_of(dataset, address) == 5
    again = send(dataset, address, 5, b"")
    assert (again.status_code, again.headers["upload-offset"]) == (204, "5")
    assert (send(dataset, address, 0, b"hello")).status_code == 409
    assert content_of(dataset, "a.txt") == b"hello"


def test_a_resumable_upload_replaces_a_file(dataset: Dataset) -> None:
    for content in (b"one", b"three"):
        address = announce(dataset, "a.txt", len(content))
        send(dataset, address, 0, content)
        assert content_of(dataset, "a.txt") == content


def test_an_empty_upload_is_complete_at_creation(dataset: Dataset) -> None:
    address = announce(dataset, "empty.txt", 0)
    assert content_of(dataset, "empty.txt") == b""
    assert offset_of(dataset, address) == 0


def test_creation_may_include_the_first_part(dataset: Dataset) -> None:
    headers = {**BYTES, "Upload-Length": "10", **metadata(filename="a.txt")}
    part = dataset.client.post(f"{dataset.address}/uploads", headers=headers, content=b"01234")
    assert (part.status_code, part.headers["upload-offset"]) == (201, "5")
    send(dataset, part.headers["location"], 5, b"56789")
    assert content_of(dataset, "a.txt") == b"0123456789"


def test_a_part_with_a_wrong_offset_is_refused_and_changes_nothing(dataset: Dataset) -> None:
    address = announce(dataset, "a.txt", 10)
    send(dataset, address, 0, b"0123")
    for offset in (0, 3, 5, 10, 999):
        answer = send(dataset, address, offset, b"xx")
        assert (answer.status_code, answer.json()["code"]) == (409, "upload-offset-mismatch")
        assert answer.headers["tus-resumable"] == "1.0.0"
    assert offset_of(dataset, address) == 4


def test_more_bytes_than_announced_are_refused(dataset: Dataset) -> None:
    address = announce(dataset, "a.txt", 4)

    def unannounced() -> Iterator[bytes]:
        yield b"0123"
        yield b"4"

    said = send(dataset, address, 0, b"01234")
    unsaid = dataset.client.patch(address, headers={**BYTES, "Upload-Offset": "0"}, content=unannounced())
    assert (said.status_code, said.json()["code"]) == (413, "too-large")
    assert (unsaid.status_code, unsaid.json()["code"]) == (413, "too-large")
    assert (dataset.client.get(f"{dataset.address}/list")).json() == []


def test_a_file_beyond_the_limit_is_refused_at_creation(dataset: Dataset) -> None:
    headers = {**TUS, "Upload-Length": str(LARGEST + 1), **metadata(path="a.bin")}
    answer = dataset.client.post(f"{dataset.address}/uploads", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0.1"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_another_version_of_the_protocol_is_refused(
    dataset: Dataset, method: str, version: str | None
) -> None:
    address = announce(dataset, "a.txt", 10)
    answer = dataset.client.request(
        method,
        f"{dataset.address}/uploads" if method == "POST" else address,
        headers={"Tus-Resumable": version} if version else {},
    )
    assert answer.status_code == 412
    assert (answer.headers["tus-version"], answer.headers["tus-resumable"]) == ("1.0.0", "1.0.0")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Upload-Length": "1"}, "invalid-upload"),
        ({"Upload-Length": "-1", **metadata(path="a")}, "invalid-upload"),
        ({"Upload-Length": "1e3", **metadata(path="a")}, "invalid-upload"),
        ({"Upload-Length": "9" * 19, **metadata(path="a")}, "invalid-upload"),
        ({**metadata(path="a")}, "invalid-upload"),
        ({"Upload-Defer-Length": "1", **metadata(path="a")}, "invalid-upload"),
        ({"Upload-Length": "1", "Upload-Metadata": "path !!!"}, "invalid-upload"),
        ({"Upload-Length": "1", "Upload-Metadata": "path YQ==,path YQ=="}, "invalid-upload"),
        ({"Upload-Length": "1", "Upload-Metadata": "path \xe9\xe9=="}, "invalid-upload"),
        ({"Upload-Length": "1", "Upload-Metadata": "path /w=="}, "invalid-upload"),
        ({"Upload-Length": "1", **metadata(path="../a")}, "invalid-path"),
        ({"Upload-Length": "1", **metadata(path=".ddb/index")}, "invalid-path"),
        ({"Upload-Length": "1", **metadata(path="a\0b")}, "invalid-path"),
    ],
)
def test_a_malformed_creation_says_what_is_wrong(
    dataset: Dataset, headers: dict[str, str], code: str
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in {**TUS, **headers}.items()]
    answer = dataset.client.post(f"{dataset.address}/uploads", headers=raw)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_body_of_another_media_type_is_refused(dataset: Dataset) -> None:
    address = announce(dataset, "a.txt", 10)
    answer = dataset.client.patch(
        address, headers={**TUS, "Upload-Offset": "0", "Content-Type": "text/plain"}, content=b"x"
    )
    assert (answer.status_code, answer.json()["code"]) == (415, "not-offset-stream")
    assert offset_of(dataset, address) == 0


def test_a_terminated_upload_is_removed_with_its_file(dataset: Dataset, files: Path) -> None:
    address = announce(dataset, "a.txt", 10)
    send(dataset, address, 0, b"01234")
    assert file_of(files, address).read_bytes() == b"01234"
    assert (dataset.client.delete(address, headers=TUS)).status_code == 204
    assert not file_of(files, address).exists()
    assert (dataset.client.head(address, headers=TUS)).status_code == 404
    assert (send(dataset, address, 5, b"56789")).status_code == 404
    assert (dataset.client.delete(address, headers=TUS)).status_code == 404


def test_a_header_can_override_the_method(dataset: Dataset) -> None:
    address = announce(dataset, "a.txt", 10)
    sent = dataset.client.post(
        address, headers={**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}, content=b"01234"
    )
    looked = dataset.client.post(address, headers={**TUS, "X-HTTP-Method-Override": "HEAD"})
    unknown = dataset.client.post(address, headers={**TUS, "X-HTTP-Method-Override": "PUT"})
    gone = dataset.client.post(address, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, "5")
    assert (looked.status_code, looked.headers["upload-offset"]) == (200, "5")
    assert (unknown.status_code, gone.status_code) == (405, 204)


def test_a_completed_upload_waits_while_a_folder_has_its_path(dataset: Dataset) -> None:
    address = announce(dataset, "a", 4)
    dataset.client.put(f"{dataset.address}/obj/a/b.txt", content=b"x")
    blocked = send(dataset, address, 0, b"0123")
    assert (blocked.status_code, blocked.json()["code"]) == (409, "entry-is-folder")
    assert (dataset.client.head(address, headers=TUS)).status_code == 409
    dataset.client.delete(f"{dataset.address}/obj/a")
    assert offset_of(dataset, address) == 4
    assert content_of(dataset, "a") == b"0123"


def test_a_path_of_a_folder_is_refused_at_creation(dataset: Dataset) -> None:
    dataset.client.put(f"{dataset.address}/obj/a/b.txt", content=b"x")
    for path, code in (("a", "entry-is-folder"), ("a/b.txt/c", "entry-is-file")):
        answer = dataset.client.post(
            f"{dataset.address}/uploads", headers={**TUS, "Upload-Length": "1", **metadata(path=path)}
        )
        assert (answer.status_code, answer.json()["code"]) == (409, code)


def test_an_upload_accepts_one_part_at_a_time(world: World, dataset: Dataset, files: Path) -> None:
    address = announce(dataset, "a.txt", 10)
    slow = Slow(world.client("admin"), address, b"01234", b"56789")
    eventually(file_of(files, address).exists)
    busy = send(dataset, address, 0, b"x")
    assert (busy.status_code, busy.json()["code"], busy.json()["noRetry"]) == (423, "upload-busy", False)
    assert slow.end().status_code == 204
    assert content_of(dataset, "a.txt") == b"0123456789"


def test_bytes_received_before_a_disconnect_are_kept(dataset: Dataset) -> None:
    address = announce(dataset, "a.bin", 3 * MIB)
    content = os.urandom(3 * MIB)

    def broken() -> Iterator[bytes]:
        yield content[: 2 * MIB + 12_345]
        raise ConnectionError("the network is gone")

    headers = {**BYTES, "Upload-Offset": "0", "Content-Length": str(3 * MIB)}
    with pytest.raises(ConnectionError):
        dataset.client.patch(address, headers=headers, content=broken())
    # The server may still be writing the received bytes; until then the upload is busy.
    offsets: list[int] = []

    def resumed() -> bool:
        offsets.append(offset_of(dataset, address))
        return offsets[-1] > 0 and send(dataset, address, offsets[-1], content[offsets[-1] :]).is_success

    eventually(resumed)
    assert offsets[-1] <= 2 * MIB + 12_345
    assert content_of(dataset, "a.bin") == content


def test_an_upload_terminated_during_a_part_creates_no_entry(
    world: World, dataset: Dataset, files: Path
) -> None:
    address = announce(dataset, "a.txt", 10)
    slow = Slow(world.client("admin"), address, b"01234", b"56789")
    eventually(file_of(files, address).exists)
    assert dataset.client.delete(address, headers=TUS).status_code == 204
    assert slow.end().status_code == 404
    assert dataset.paths() == []


def test_a_permission_lost_during_a_part_ends_the_upload(world: World, dataset: Dataset, files: Path) -> None:
    writer = world.member(dataset.org, "readWrite")
    address = announce(dataset.seen_by(writer), "a.txt", 10)
    slow = Slow(writer, address, b"01234", b"56789")
    eventually(file_of(files, address).exists)
    for member in world.admin.get(f"/orgs/{dataset.org}/members").json():
        world.admin.delete(f"/orgs/{dataset.org}/members/{member['userName']}").raise_for_status()
    assert slow.end().status_code == 404
    assert dataset.paths() == []


@pytest.mark.parametrize(
    ("permissions", "creates", "touches"),
    [(None, 404, 404), ("readOnly", 403, 403), ("readWrite", 201, 404), ("admin", 201, 200)],
)
def test_an_upload_belongs_to_its_creator_and_administrators(
    world: World, dataset: Dataset, permissions: str | None, creates: int, touches: int
) -> None:
    address = announce(dataset, "a.txt", 10)
    other = world.member(dataset.org, permissions) if permissions else world.client(world.user())
    announcement = {**TUS, "Upload-Length": "1", **metadata(path="b.txt")}
    assert other.post(f"{dataset.address}/uploads", headers=announcement).status_code == creates
    assert other.head(address, headers=TUS).status_code == touches
    part = {**BYTES, "Upload-Offset": "0"}
    assert other.patch(address, headers=part).status_code == (204 if touches == 200 else touches)
    assert other.delete(address, headers=TUS).status_code == (204 if touches == 200 else touches)


def test_anonymous_callers_cannot_upload(world: World) -> None:
    public = world.dataset(visibility="public")
    address = announce(public, "a.txt", 10)
    anonymous = world.client()
    announcement = {**TUS, "Upload-Length": "1", **metadata(path="b.txt")}
    # A public dataset isn't hidden from anonymous callers, but they may not write.
    assert anonymous.post(f"{public.address}/uploads", headers=announcement).status_code == 403
    for method in ("HEAD", "PATCH", "DELETE", "POST"):
        headers = {**BYTES, "Upload-Offset": "0"}
        assert anonymous.request(method, address, headers=headers).status_code == 403


@pytest.mark.parametrize("chunked", [False, True])
def test_a_first_part_longer_than_the_file_is_refused_and_stores_nothing(
    world: World, dataset: Dataset, files: Path, *, chunked: bool
) -> None:
    before = set(files.iterdir())
    headers = {**BYTES, "Upload-Length": "4", **metadata(path="a.bin")}
    body = iter([b"12345"]) if chunked else b"12345"
    answer = dataset.client.post(f"{dataset.address}/uploads", headers=headers, content=body)
    assert (answer.status_code, "location" in answer.headers) == (413, False)
    assert set(files.iterdir()) <= before
    usage = world.admin.get(f"/orgs/{dataset.org}/usage").raise_for_status().json()
    assert usage["uploadBytes"] == 0


def test_a_first_part_that_cannot_become_an_entry_stores_nothing(dataset: Dataset, files: Path) -> None:
    before = set(files.iterdir())

    def body() -> Iterator[bytes]:
        yield b"12"
        # A folder of that name is created during the upload.
        dataset.client.post(f"{dataset.address}/obj", files={"path": (None, b"a.bin")}).raise_for_status()
        yield b"34"

    headers = {**BYTES, "Upload-Length": "4", **metadata(path="a.bin")}
    answer = dataset.client.post(f"{dataset.address}/uploads", headers=headers, content=body())
    assert (answer.status_code, answer.json()["code"]) == (409, "entry-is-folder")
    assert set(files.iterdir()) <= before

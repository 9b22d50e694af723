"""Downloads of artifacts according to RFC 9110; entries use the same code."""

import asyncio
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.support.databases import run_sql
from tests.support.world import Dataset, World, eventually

CONTENT = b"0123456789"
TAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
DATE = "Sun, 22 Nov 2026 10:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Download:
    """A downloadable URL with its client."""

    client: httpx.Client
    address: str

    def get(self, *headers: tuple[str, str], method: str = "GET") -> httpx.Response:
        return self.client.request(method, self.address, headers=list(headers))


@pytest.fixture(scope="module", params=["result", "entry"])
def download(world: World, request: pytest.FixtureRequest) -> Download:
    dataset = world.dataset()
    if request.param == "entry":
        dataset.upload("made.txt", CONTENT)
        address = f"{dataset.address}/obj/made.txt"
    else:
        task = dataset.run("patient", {"publish": CONTENT.decode()})
        address = task["artifact"]["resultUrl"]
    return Download(world.admin, address)


def test_a_full_download_has_its_headers(download: Download) -> None:
    answer = download.get()
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["etag"] == TAG
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == "10"
    assert (
        answer.headers["content-disposition"]
        == "attachment; filename=\"made.txt\"; filename*=UTF-8''made.txt"
    )
    assert "last-modified" not in answer.headers


@pytest.mark.parametrize("headers", [[], [("range", "bytes=0-1")], [("range", "bytes=99-")]])
def test_head_has_the_headers_of_a_full_download_and_no_body(
    download: Download, headers: list[tuple[str, str]]
) -> None:
    head, get = download.get(*headers, method="HEAD"), download.get()
    assert (head.status_code, head.content) == (200, b"")
    assert {name: value for name, value in head.headers.items() if name != "date"} == {
        name: value for name, value in get.headers.items() if name != "date"
    }


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("if-none-match", TAG, 304), ("if-match", '"x"', 412), ("if-match", TAG, 200)],
)
def test_head_honours_conditions_like_get(download: Download, name: str, value: str, status: int) -> None:
    answers = [download.get((name, value), method=method) for method in ("HEAD", "GET")]
    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].content == b""
    assert answers[0].headers["etag"] == answers[1].headers["etag"] == TAG


@pytest.mark.parametrize(
    ("wanted", "part", "content_range"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", CONTENT, "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        (f"bytes=8-{'9' * 5000}", b"89", "bytes 8-9/10"),
        ("bytes=0-5,3-7", b"01234567", "bytes 0-7/10"),
        ("bytes=1-1,50-60", b"1", "bytes 1-1/10"),
    ],
)
def test_one_range(download: Download, wanted: str, part: bytes, content_range: str) -> None:
    answer = download.get(("range", wanted))
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == content_range
    assert answer.headers["content-length"] == str(len(part))
    assert answer.headers["etag"] == TAG
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_several_ranges_are_sent_as_multipart_in_requested_order(download: Download) -> None:
    answer = download.get(("range", "bytes=8-9, 0-1"))
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\w+)", answer.headers["content-type"])
    assert answer.status_code == 206
    assert boundary is not None
    assert "content-range" not in answer.headers
    assert answer.headers["etag"] == TAG
    assert int(answer.headers["content-length"]) == len(answer.content)
    _, *parts, end = answer.content.split(f"--{boundary[1]}".encode())
    assert end == b"--\r\n"
    heads = [part.partition(b"\r\n\r\n")[0].decode().strip().split("\r\n") for part in parts]
    assert heads == [
        ["Content-Type: text/plain", "Content-Range: bytes 8-9/10"],
        ["Content-Type: text/plain", "Content-Range: bytes 0-1/10"],
    ]
    assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [b"89\r\n", b"01\r\n"]


@pytest.mark.parametrize(
    "headers",
    [
        [("range", "lines=0-1")],
        [("range", "bytes=5-2")],
        [("range", "bytes=x")],
        [("range", "bytes=0-1"), ("range", "bytes=3-4")],
    ],
)
def test_unknown_units_and_malformed_ranges_are_ignored(
    download: Download, headers: list[tuple[str, str]]
) -> None:
    answer = download.get(*headers)
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100,200-", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_unsatisfiable_ranges_get_416_with_the_length(download: Download, wanted: str) -> None:
    answer = download.get(("range", wanted))
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "range-not-satisfiable"
    assert "content-disposition" not in answer.headers


@pytest.mark.parametrize(
    ("condition", "status", "content"),
    [(TAG, 206, b"01"), ('"other"', 200, CONTENT), (f"W/{TAG}", 200, CONTENT), (DATE, 200, CONTENT)],
)
def test_if_range_returns_the_part_only_of_the_same_content(
    download: Download, condition: str, status: int, content: bytes
) -> None:
    answer = download.get(("range", "bytes=0-1"), ("if-range", condition))
    assert (answer.status_code, answer.content) == (status, content)


@pytest.mark.parametrize(
    "headers",
    [
        [("if-none-match", TAG)],
        [("if-none-match", f"W/{TAG}")],
        [("if-none-match", "*")],
        [("if-none-match", f'"a", {TAG}')],
        [("if-none-match", '"a"'), ("if-none-match", TAG)],
        [("if-none-match", TAG), ("range", "bytes=0-1")],
    ],
)
def test_a_matching_if_none_match_gets_304(download: Download, headers: list[tuple[str, str]]) -> None:
    answer = download.get(*headers)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", TAG)
    assert "content-length" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [[("if-match", '"a"')], [("if-match", f"W/{TAG}")], [("if-match", '"a"'), ("if-none-match", TAG)]],
)
def test_if_match_with_another_content_gets_412(download: Download, headers: list[tuple[str, str]]) -> None:
    answer = download.get(*headers)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed")


@pytest.mark.parametrize("name", ["if-modified-since", "if-unmodified-since"])
def test_date_conditions_are_ignored_without_a_modification_date(download: Download, name: str) -> None:
    for date in (DATE, "Thu, 01 Jan 1970 00:00:00 GMT"):
        assert download.get((name, date)).content == CONTENT


def test_an_empty_content_is_sent_in_full(world: World) -> None:
    dataset = world.dataset()
    task = dataset.run("patient")
    empty = Download(world.admin, task["artifact"]["resultUrl"])
    assert [empty.get(("range", wanted)).status_code for wanted in ("bytes=0-", "bytes=-5")] == [416, 200]


def test_an_artifact_that_expires_during_a_download_is_sent_in_full_and_then_gone(
    world: World,
) -> None:
    dataset: Dataset = world.dataset()
    content = b"0123456789abcdef" * (2 * 1024**2)  # 32 MiB, far more than socket buffers
    dataset.upload("a.txt", content, indexed=False)
    task = dataset.run("patient", {"path": "a.txt"})
    storage = Path(world.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://"))

    def copies() -> list[Path]:
        found = []
        for file in (storage / "blobs").glob("*/*"):
            with suppress(FileNotFoundError):  # files of other tests may vanish
                if file.stat().st_size == len(content):
                    found.append(file)
        return found

    assert len(copies()) == 2
    received = hashlib.sha256()
    with dataset.client.stream("GET", task["artifact"]["resultUrl"]) as answer:
        pieces = answer.iter_raw(65536)
        received.update(next(pieces))
        expire = f"UPDATE artifacts SET expires_at = now() WHERE task_id = '{task['taskId']}'"
        asyncio.run(run_sql(world.stack.environment["AEROTASK_DATABASE_URL"], expire))
        eventually(lambda: len(copies()) == 1)  # the entry's own
        for piece in pieces:
            received.update(piece)

    assert received.hexdigest() == task["artifact"]["sha256"] == hashlib.sha256(content).hexdigest()
    gone = dataset.client.get(task["artifact"]["resultUrl"])
    assert (gone.status_code, gone.json()["code"]) == (410, "artifact-expired")
    assert dataset.client.head(task["artifact"]["resultUrl"]).status_code == 410

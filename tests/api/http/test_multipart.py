from itertools import pairwise
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from aerotask.api.http.multipart import FormReader, field_text
from aerotask.domain.errors import InvalidInput, TooLarge

FORM = (
    b"--XX\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\n"
    b"hello\r\n--X world\r\n"
    b"--XX\r\n"
    b'Content-Disposition: form-data; name="path"\r\n\r\n'
    b"f\xc3\xbc/a.txt\r\n"
    b"--XX--\r\n"
)


def request(pieces: list[bytes], kind: str = "multipart/form-data; boundary=XX") -> Request:
    """A request whose body arrives in these pieces."""
    waiting = [*pieces]

    async def receive() -> dict[str, Any]:
        body = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)


async def read(pieces: list[bytes]) -> list[tuple[str, str | None, bytes]]:
    return [
        (part.name, part.file_name, b"".join([piece async for piece in part.body]))
        async for part in FormReader(request(pieces), "file").parts()
    ]


EXPECTED = [("file", "a.txt", b"hello\r\n--X world"), ("path", None, "fü/a.txt".encode())]


async def test_parts_are_read_in_the_order_of_the_form() -> None:
    assert await read([FORM]) == EXPECTED


@given(st.sets(st.integers(1, len(FORM) - 1), max_size=20))
async def test_parts_are_independent_of_how_the_body_is_split(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(FORM)]
    pieces = [FORM[start:stop] for start, stop in pairwise(edges)]
    assert await read(pieces) == EXPECTED


@pytest.mark.parametrize("length", [0, 60, 120, 130, len(FORM) - 4])
async def test_a_form_that_ends_too_early_is_refused(length: int) -> None:
    with pytest.raises(InvalidInput, match="ends too early"):
        await read([FORM[:length]])


async def test_a_body_that_is_no_form_is_refused() -> None:
    with pytest.raises(InvalidInput, match="malformed"):
        await read([b"no form at all"])


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", ""])
def test_another_content_type_is_refused(kind: str) -> None:
    with pytest.raises(InvalidInput):
        FormReader(request([FORM], kind), "file")


@pytest.mark.parametrize("content", [b"x" * 10_000, b"\xff\xfe"])
async def test_a_field_must_be_short_and_utf_8(content: bytes) -> None:
    body = b'--XX\r\nContent-Disposition: form-data; name="path"\r\n\r\n' + content + b"\r\n--XX--\r\n"
    part = await anext(FormReader(request([body]), "file").parts())
    with pytest.raises(InvalidInput):
        await field_text(part)


async def test_a_part_is_not_held_in_memory() -> None:
    """The reader requests the next piece of the body only after the previous one was consumed."""
    asked = 0
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked == 1:
            return {"type": "http.request", "body": head, "more_body": True}
        if asked <= 100:
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}
        return {"type": "http.request", "body": b"\r\n--XX--\r\n", "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"content-type", b"multipart/form-data; boundary=XX")],
    }
    taken = 0
    async for part in FormReader(Request(scope, receive), "file").parts():
        async for piece in part.body:
            taken += len(piece)
            assert asked * 65536 - taken <= 3 * 65536
    assert taken == 99 * 65536


@pytest.mark.parametrize("name", ["正射影像.tif", "fü.tif", "\U0001f681.tif"])
async def test_a_file_name_may_use_any_script(name: str) -> None:
    form = FORM.replace(b'filename="a.txt"', f'filename="{name}"'.encode())
    assert await read([form]) == [("file", name, EXPECTED[0][2]), EXPECTED[1]]


PART = b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'


@pytest.mark.parametrize(
    "head",
    [
        PART % b"junk",
        FORM.removesuffix(b"--XX--\r\n") + PART % b"file",
        FORM,
    ],
    ids=["a foreign field", "a second file", "behind the end"],
)
async def test_a_skipped_part_must_end(head: bytes) -> None:
    with pytest.raises(TooLarge):
        await read([head, *[b"x" * 65536] * 20])


async def test_many_small_fields_must_end_too() -> None:
    with pytest.raises(TooLarge):
        await read([(PART % b"path" + b"a\r\n") * 1000] * 30)

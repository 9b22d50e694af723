"""The wire protocol: what is encoded can be read back, and malformed messages are refused."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerotask.sandbox.protocol import MAX_CONTENT_BYTES, Message, decode, encode, read_message

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MESSAGES = st.builds(
    Message,
    TEXTS,
    st.dictionaries(TEXTS, TEXTS | st.integers(-(2**53), 2**53) | st.lists(st.booleans()), max_size=4),
    st.binary(max_size=200),
)


@given(st.lists(MESSAGES, max_size=4))
def test_messages_are_read_back_in_order(messages: list[Message]) -> None:
    async def read_all() -> list[Message]:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(map(encode, messages)))
        return [await read_message(reader) for _ in messages]

    assert asyncio.run(read_all()) == messages


def test_a_message_without_content_is_one_line() -> None:
    line = encode(Message("log", {"line": "two\nlines"}))
    assert line.count(b"\n") == 1
    assert decode(line) == Message("log", {"line": "two\nlines"})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff not json\n",
        b"[]\n",
        b'{"kind": "done"}\n',
        b'{"kind": "done", "body": 7, "bytes": 0}\n',
        b'{"kind": "done", "body": {}, "bytes": -1}\n',
        b'{"kind": "done", "body": {}, "bytes": %d}\n' % (MAX_CONTENT_BYTES + 1),
        encode(Message("done", content=b"content")),
    ],
)
def test_malformed_lines_are_refused(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(line)


async def test_a_connection_that_ends_within_a_message_is_an_error() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(encode(Message("done", content=b"content"))[:-1])
    reader.feed_eof()
    with pytest.raises(EOFError):
        await read_message(reader)

"""Wire protocol between a process and its children: a line of JSON, then the content whose length it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:  # the programs that only read lines start sooner without asyncio
    from asyncio import StreamReader

MAX_CONTENT_BYTES = 64 * 1024 * 1024
FINAL_KINDS = frozenset({"done", "failed", "cancelled"})
"""Kinds of the message that ends a job."""
PARSED = "parsed"
"""The kind of message with which a tool's child asks for its inputs, before it runs the tool."""


@dataclass(frozen=True, slots=True)
class Message:
    """A job for a child, or an event or the result that the child sends back; `body` is JSON."""

    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = b""


def encode(message: Message) -> bytes:
    """The message as a line, followed by its content."""
    head = {"kind": message.kind, "body": message.body, "bytes": len(message.content)}
    return orjson.dumps(head, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n" + message.content


def decode(line: bytes) -> Message:
    """The message of a line that no content follows.

    Raises:
        ValueError, KeyError, TypeError: malformed; the process that sent it can't be trusted any more.
    """
    message, content_bytes = _decode_head(line)
    if content_bytes:
        raise ValueError(f"{content_bytes} bytes of unexpected content")
    return message


async def read_message(reader: StreamReader) -> Message:
    """The next message of a stream.

    Raises:
        OSError, EOFError: the connection broke.
        ValueError, KeyError, TypeError: as `decode`; also when the stream has ended.
    """
    message, content_bytes = _decode_head(await reader.readline())
    return replace(message, content=await reader.readexactly(content_bytes)) if content_bytes else message


def _decode_head(line: bytes) -> tuple[Message, int]:
    fields = orjson.loads(line)
    content_bytes = int(fields["bytes"])
    if not 0 <= content_bytes <= MAX_CONTENT_BYTES:
        raise ValueError(f"a message of {content_bytes} bytes")
    return Message(str(fields["kind"]), dict(fields["body"])), content_bytes

"""What a pool and its children say to each other: a job is a line of JSON, a reply one more and then its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

MAX_CONTENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PoolJob:
    """Something to do: `kind` chooses who does it, `body` is JSON."""

    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a job: facts as JSON, and content if there is any."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job came to nothing; after `final` the child is not to be given another."""

    code: str
    message: str
    final: bool = False
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """A reply's first line: what there is to know before its content is read."""

    facts: Mapping[str, Any]
    content_bytes: int
    refusal: Refusal | None


def encode_job(job: PoolJob) -> bytes:
    """The job as a line."""
    return orjson.dumps(job) + b"\n"


def decode_job(line: bytes) -> PoolJob:
    """The job that a line holds."""
    fields = orjson.loads(line)
    return PoolJob(fields["kind"], fields["body"])


def encode_reply(reply: Reply | Refusal) -> bytes:
    """A reply as a line and its content behind it."""
    if isinstance(reply, Refusal):
        return orjson.dumps({"facts": {}, "bytes": 0, "refusal": reply}) + b"\n"
    return orjson.dumps({"facts": reply.facts, "bytes": len(reply.content)}) + b"\n" + reply.content


def decode_head(line: bytes) -> ReplyHead:
    """The reply that a line begins.

    Raises:
        ValueError, KeyError, TypeError: it makes no sense; the child is not to be trusted any more.
    """
    fields = orjson.loads(line)
    size = int(fields["bytes"])
    if not 0 <= size <= MAX_CONTENT_BYTES:
        raise ValueError(f"a reply of {size} bytes")
    refused = fields.get("refusal")
    return ReplyHead(dict(fields["facts"]), size, Refusal(**refused) if refused else None)

"""What a worker and a child say to each other: one JSON object a line, over a socket of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import orjson


@dataclass(frozen=True, slots=True)
class ToolJob:
    """Run a tool: `inputs` maps dataset paths to files, `memory_bytes` is what the plan asked for."""

    tool_id: str
    tool_version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    workdir: str
    threads: int
    memory_bytes: int
    max_file_bytes: int
    limits: Mapping[str, Any] = field(default_factory=dict)
    """What the installation allows tools: `sdk.Limits`."""
    slug: str = ""
    snapshot: str | None = None
    """The file of the snapshot, if the tool asked for one."""
    derived: tuple[tuple[str, str, str], ...] = ()
    """Path of an input, kind and builder of each derivative that its content has."""
    reads: str | None = None
    """The folder that the inputs and the snapshot lie in; nothing else that is stored can be read."""
    kind: Literal["tool"] = "tool"


@dataclass(frozen=True, slots=True)
class IndexJob:
    """Describe files: each pair is an entry's id and the file with its content, under the entry's name."""

    files: tuple[tuple[str, str], ...]
    folder: str
    """The one that the files lie in; nothing else that is stored can be read."""
    memory_bytes: int
    kind: Literal["index"] = "index"


Job: TypeAlias = ToolJob | IndexJob


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a child says. `what` decides which of the members mean something."""

    what: Literal["log", "progress", "edits", "done", "failed", "cancelled", "begun", "described"]
    body: Mapping[str, Any]


def encode_job(job: Job) -> bytes:
    """The job as a line."""
    return orjson.dumps(job) + b"\n"


def decode_job(line: bytes) -> Job:
    """The job that a line holds."""
    fields = orjson.loads(line)
    if fields.pop("kind") == "index":
        files = tuple((str(entry), str(file)) for entry, file in fields.pop("files"))
        return IndexJob(files=files, **fields)
    derived = tuple((str(path), str(kind), str(builder)) for path, kind, builder in fields.pop("derived", ()))
    return ToolJob(derived=derived, **fields)


def encode_event(what: str, body: Mapping[str, Any]) -> bytes:
    """An event as a line."""
    return orjson.dumps({"what": what, "body": body}, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def decode_event(line: bytes) -> Event:
    """The event that a line holds.

    Raises:
        ValueError: it holds none; the child is not to be trusted any more.
    """
    fields = orjson.loads(line)
    return Event(fields["what"], fields["body"])

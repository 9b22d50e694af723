"""Jobs of a worker's children, as plain values, and their JSON on the socket.

A tool's child validates the params first, and says by them which right and which part of the dataset the run needs
(`ToolNeeds`). The worker, which never validates them, answers with the inputs (`ToolInputs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeAlias

from aerotask.domain.access import Access
from aerotask.sandbox.protocol import PARSED, Message

OWN_FOLDER = "tmp"
"""Folder within that of a child without a tool, which alone the child can write to."""


@dataclass(frozen=True, slots=True)
class ToolJob:
    """Run of a tool, before its inputs are known; `memory_bytes` is the plan's estimate."""

    tool_id: str
    tool_version: str
    params: Mapping[str, Any]
    workdir: str
    threads: int
    memory_bytes: int
    max_file_bytes: int
    reads: str | None = None
    """The folder with the inputs and the snapshot; the child can read no other stored file."""

    def to_message(self) -> Message:
        """The job on the wire."""
        return Message("tool", {each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The job of a message."""
        return cls(**body)


@dataclass(frozen=True, slots=True)
class ToolNeeds:
    """Answer of a tool's child: the right that its validated params require, and the paths of its snapshot."""

    access: Access
    snapshot: tuple[str, ...]

    def to_message(self) -> Message:
        """The needs on the wire."""
        return Message(PARSED, {"access": self.access, "snapshot": self.snapshot})

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The needs of a message."""
        return cls(Access(body["access"]), tuple(map(str, body["snapshot"])))


@dataclass(frozen=True, slots=True)
class ToolInputs:
    """Inputs of a run, with which the tool starts: `files` maps dataset paths to files."""

    files: Mapping[str, str] = field(default_factory=dict)
    hashes: tuple[str, ...] = ()
    """The hash that each file was stored with, in the order of `files`."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """The installation's limits for tools: `sdk.Limits`."""
    slug: str = ""
    snapshot: str | None = None
    """The file of the snapshot, if the tool asked for one."""
    derived: tuple[tuple[str, str, str], ...] = ()
    """Path of an input, kind and builder of each derivative of its content."""
    derived_since_submit: tuple[tuple[str, str, str], ...] = ()
    """Those of them that were made since the task's submit."""

    def to_message(self) -> Message:
        """The inputs on the wire."""
        return Message("run", {each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The inputs of a message."""
        derived = {name: _triples(body[name]) for name in ("derived", "derived_since_submit")}
        return cls(**{**body, "hashes": tuple(body["hashes"]), **derived})


@dataclass(frozen=True, slots=True)
class IndexJob:
    """Metadata extraction: each pair is an entry's id and the file with its content, under the entry's name."""

    files: tuple[tuple[str, str], ...]
    folder: str
    """The folder with the files; the child can read no other stored file."""
    memory_bytes: int
    file_cpu_s: float = 60.0
    """Processor time for one file; the kernel ends the child that needs more (SIGPROF)."""
    batch_s: float = 60.0
    """Time after which no further file is begun."""

    def to_message(self) -> Message:
        """The job on the wire."""
        return Message("index", {each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The job of a message."""
        files = tuple((str(entry), str(file)) for entry, file in body["files"])
        return cls(**{**body, "files": files})


def _triples(listed: Sequence[Sequence[object]]) -> tuple[tuple[str, str, str], ...]:
    return tuple((str(path), str(kind), str(builder)) for path, kind, builder in listed)


@dataclass(frozen=True, slots=True)
class OverviewsJob:
    """Overviews of one raster, which the child writes to `target`."""

    source: str
    folder: str
    """The folder with the raster; the child can read no other stored file."""
    memory_bytes: int
    threads: int
    cpu_s: float
    """Processor time; the kernel ends the child that needs more (SIGPROF)."""
    max_file_bytes: int

    @property
    def target(self) -> str:
        """The file to write, in the only folder that the child can write to."""
        return f"{self.folder}/{OWN_FOLDER}/overviews.tif"

    def to_message(self) -> Message:
        """The job on the wire."""
        return Message("overviews", {each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The job of a message."""
        return cls(**body)


Job: TypeAlias = ToolJob | IndexJob | OverviewsJob
_KINDS: Mapping[str, type[Job]] = {"tool": ToolJob, "index": IndexJob, "overviews": OverviewsJob}


def job_of(message: Message) -> Job:
    """The job that a child was sent."""
    return _KINDS[message.kind].from_body(message.body)

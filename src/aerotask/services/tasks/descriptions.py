"""Descriptions of entries on their way from a child to the worker: a file of JSON lines in the work folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import orjson

from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed
from aerotask.domain.text_cleaning import clean_json
from aerotask.metadata.file_types import EntryType
from aerotask.sdk.changes import DescribeEntry

FILE_NAME = ".descriptions.jsonl"
MAX_LINE_BYTES = 1024 * 1024
BATCH = 500

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MEMBERS = {member.name for member in fields(DescribeEntry)}
_TYPES = frozenset(EntryType) - {EntryType.DIRECTORY}


def write_descriptions(descriptions: Sequence[DescribeEntry], workdir: Path) -> str:
    """Write them into the work folder; the file's path."""
    file = workdir / FILE_NAME
    with file.open("xb") as lines:
        for description in descriptions:
            lines.write(orjson.dumps(asdict(description), default=str) + b"\n")
    return str(file)


def read_descriptions(
    file: Path, *, may_write: Sequence[str], inputs: Collection[str]
) -> Iterator[list[dict[str, Any]]]:
    """The rows for `store.indexing.redescribe`, a batch at a time; nothing of them is trusted unseen.

    Raises:
        TaskFailed: one of them isn't the run's to give, or is no description (`bad-output`).
    """
    batch: list[dict[str, Any]] = []
    # Each input once, so that nobody writes descriptions without end.
    undescribed = set(inputs)
    with file.open("rb") as lines:
        while line := lines.readline(MAX_LINE_BYTES + 1):
            batch.append(_row(line, may_write, undescribed))
            undescribed.discard(batch[-1]["path"])
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _row(line: bytes, may_write: Sequence[str], undescribed: Collection[str]) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise _bad(f"a description is longer than {MAX_LINE_BYTES} bytes")
    try:
        told: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _bad("a description can't be read") from error
    if not isinstance(told, dict) or told.keys() != _MEMBERS:
        raise _bad("a description has other members than it should")
    at = told["at"]
    if (
        not isinstance(at, str)
        or at not in undescribed
        or not any(paths.within(at, allowed) for allowed in may_write)
    ):
        raise _bad(
            f"{paths.shown(str(at))} is described twice, or without being an input that its plan may change"
        )
    if (
        told["type"] not in _TYPES
        or not (isinstance(told["sha256"], str) and _SHA256.fullmatch(told["sha256"]))
        or not isinstance(told["properties"], dict)
        or not all(isinstance(told[name], dict | None) for name in ("point_geom", "polygon_geom"))
    ):
        raise _bad(f"the description of {paths.shown(at)} makes no sense")
    del told["at"]
    return {"path": at, **clean_json(told)}


def _bad(why: str) -> TaskFailed:
    return TaskFailed(f"The tool declared what it may not: {why}.", code="bad-output")

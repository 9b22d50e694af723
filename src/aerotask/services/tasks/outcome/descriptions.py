"""Entry descriptions of a run: a file of JSON lines in its work folder, written by the child and checked here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    file: Path, *, may_write: Sequence[str], inputs: Mapping[str, str]
) -> Iterator[list[dict[str, Any]]]:
    """The rows for `indexing.update_metadata`, in batches; each line is checked. `inputs` have their hashes.

    Raises:
        TaskFailed: a line is malformed, or describes an entry that the run may not change, or other content than
            the input has (`bad-output`).
    """
    batch: list[dict[str, Any]] = []
    # Each input at most once, otherwise a tool could write descriptions without end.
    undescribed = set(inputs)
    with file.open("rb") as lines:
        while line := lines.readline(MAX_LINE_BYTES + 1):
            batch.append(_row(line, may_write, undescribed, inputs))
            undescribed.discard(batch[-1]["path"])
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _row(
    line: bytes, may_write: Sequence[str], undescribed: Collection[str], hashes: Mapping[str, str]
) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise _bad(f"a description is longer than {MAX_LINE_BYTES} bytes")
    try:
        description: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _bad("a description is no JSON") from error
    if not isinstance(description, dict) or description.keys() != _MEMBERS:
        raise _bad("a description lacks members or has unknown ones")
    at = description["at"]
    if (
        not isinstance(at, str)
        or at not in undescribed
        or not any(paths.within(at, allowed) for allowed in may_write)
    ):
        raise _bad(f"{paths.shown(str(at))} is described twice, or is not an input that the plan may change")
    if (
        description["type"] not in _TYPES
        or not isinstance(description["properties"], dict)
        or not all(isinstance(description[name], dict | None) for name in ("point_geom", "polygon_geom"))
    ):
        raise _bad(f"the description of {paths.shown(at)} is invalid")
    if description["sha256"] != hashes[at]:
        raise _bad(f"{paths.shown(at)} is described by a content with another hash than the stored one")
    del description["at"], description["sha256"]
    return {"path": at, **clean_json(description)}


def _bad(reason: str) -> TaskFailed:
    return TaskFailed(f"The tool declared invalid descriptions: {reason}.", code="bad-output")

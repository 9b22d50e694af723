"""Fork server program of a worker: each child runs a tool or extracts metadata, under limits, and ends."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from aerotask.domain.disk_full import has_hardly_any_space, is_disk_full
from aerotask.domain.errors import AerotaskError, InvalidInput, TaskFailed, cause_of
from aerotask.domain.text_cleaning import clean_line
from aerotask.failpoints import failpoint
from aerotask.metadata.model import too_large_to_read
from aerotask.metadata.timeouts import cpu_deadline
from aerotask.registry import Registry, load_registry
from aerotask.sandbox import confinement, forkserver
from aerotask.sandbox.child_log import forward_log
from aerotask.sandbox.child_loop import EventWriter, serve_socket
from aerotask.sandbox.kernel.limits import limit_resources
from aerotask.sandbox.protocol import Message
from aerotask.sdk.changes import ChangeSet, Edit, PutDerivative, PutEntry, PutFolder
from aerotask.sdk.context import Cancelled
from aerotask.sdk.limits import Limits
from aerotask.sdk.params import ToolParams
from aerotask.sdk.run import LogLine, Run, RunProgress
from aerotask.sdk.snapshot import Snapshot
from aerotask.sdk.tool import Tool
from aerotask.services.tasks.outcome.descriptions import write_descriptions
from aerotask.worker.jobs import (
    OWN_FOLDER,
    IndexJob,
    Job,
    OverviewsJob,
    ToolInputs,
    ToolJob,
    ToolNeeds,
    job_of,
)

PROGRAM = "aerotask.worker.tool_child"
OPEN_FILES = 1024
EDITS_PER_MESSAGE = 1000
OVERVIEWS_NICENESS = 10
"""The first pictures of a raster are drawn while its overviews are made, and go first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ParsedJob:
    """A tool's job with its validated params."""

    job: ToolJob
    tool: Tool[Any]
    params: ToolParams


@dataclass(slots=True)
class ToolChild:
    """A forked child with one job."""

    registry: Registry
    _parsed: ParsedJob | None = None
    _workdir: str = ""

    def serve(self, own: socket.socket) -> None:
        """Do the job that comes over the socket; the last message is its outcome."""
        serve_socket(own, self._handle, self._failure, on_sigterm=_raise_cancelled, once=True)

    def _handle(self, message: Message, events: EventWriter) -> Message:
        if self._parsed is not None:
            changes = _run_tool(self._parsed, ToolInputs.from_body(message.body), events)
            return _send_changes(changes, Path(self._workdir), events)
        forward_log(events)
        job = job_of(message)
        if isinstance(job, OverviewsJob):
            os.nice(OVERVIEWS_NICENESS)
        limit_child(job)
        _confine(job, self.registry)
        if isinstance(job, IndexJob):
            return _describe_all(job, events)
        if isinstance(job, OverviewsJob):
            self._workdir = job.folder
            return _make_overviews(job)
        self._workdir = job.workdir
        self._parsed = parsed = _parse(job, self.registry)
        return ToolNeeds(
            parsed.tool.required_access(parsed.params), tuple(parsed.tool.snapshot_of(parsed.params))
        ).to_message()

    def _failure(self, error: BaseException) -> Message:
        if isinstance(error, Cancelled):
            return Message("cancelled")
        return Message("failed", _describe_failure(error, self._workdir))


def _raise_cancelled(_number: int, _frame: object) -> None:
    raise Cancelled


def limit_child(job: Job) -> None:
    """Bound what a job can take from its neighbours."""
    max_file_bytes = None if isinstance(job, IndexJob) else job.max_file_bytes
    limit_resources(memory_bytes=job.memory_bytes, open_files=OPEN_FILES, max_file_bytes=max_file_bytes)


def _confine(job: Job, registry: Registry) -> None:
    """Leave the job its inputs to read, and one folder to write to."""
    if not isinstance(job, ToolJob):
        own, inputs = Path(job.folder, OWN_FOLDER), [Path(job.folder)]
        own.mkdir(mode=0o700, exist_ok=True)
        shared: list[Path] = []
        internet = False
    else:
        tool = registry.get(job.tool_id, job.tool_version)
        own, inputs = Path(job.workdir), [Path(job.reads)] if job.reads else []
        shared = [Path(folder) for folder in tool.folders]
        internet = tool.network
    # For libraries and programs that need a temporary file.
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)
    # Folders of the host belong to whom they belong to; a tool that shares them keeps the worker's account.
    owned = None if shared else [own]
    confinement.confine(reads=inputs, writes=[own, *shared], owned=owned, internet=internet)


def _parse(job: ToolJob, registry: Registry) -> ParsedJob:
    tool = registry.get(job.tool_id, job.tool_version)
    try:
        return ParsedJob(job, tool, tool.params.model_validate_json(orjson.dumps(job.params)))
    except ValidationError as error:
        raise TaskFailed(
            "The task's params don't fit the tool as it is installed now; submit the task again.",
            code="invalid-params",
        ) from error


def _run_tool(parsed: ParsedJob, inputs: ToolInputs, events: EventWriter) -> ChangeSet:
    def emit(event: RunProgress | LogLine) -> None:
        if isinstance(event, LogLine):
            events.send(Message("log", {"line": event.text}))
        else:
            events.send_progress(event.fraction, event.phase)

    workdir = Path(parsed.job.workdir)
    os.chdir(workdir)
    run = Run(
        inputs={path: Path(file) for path, file in inputs.files.items()},
        workdir=workdir,
        threads=parsed.job.threads,
        emit=emit,
        limits=Limits(**inputs.limits),
        snapshot=Snapshot(inputs.slug, None if inputs.snapshot is None else Path(inputs.snapshot)),
        derived=frozenset(inputs.derived),
        derived_since_submit=frozenset(inputs.derived_since_submit),
        hashes=dict(zip(inputs.files, inputs.hashes, strict=False)),
        on_damage=lambda path: events.send(Message("damaged", {"path": path})),
        on_derivative=lambda made: events.send(Message("derivative", _derivative(made))),
    )
    if parsed.tool.verifies_inputs:
        run.check_contents()
    parsed.tool.run(parsed.params, run)
    return run.changes()


def _send_changes(changes: ChangeSet, workdir: Path, events: EventWriter) -> Message:
    """Send the edits in batches, because a message has a maximum length; the rest is the final message."""
    edits = iter(changes.edits)
    while batch := [_edit(edit) for edit in islice(edits, EDITS_PER_MESSAGE)]:
        events.send(Message("edits", {"edits": batch}))
    artifacts = [
        {
            "path": str(artifact.content),
            "name": artifact.name,
            "mediaType": artifact.media_type,
            "sha256": artifact.sha256,
        }
        for artifact in changes.artifacts
    ]
    body = {
        "artifacts": artifacts,
        "result": changes.result,
        # In a file, because those of a whole dataset exceed the maximum length of a message.
        "descriptions": write_descriptions(changes.descriptions, workdir) if changes.descriptions else None,
    }
    return Message("done", body)


def _derivative(made: PutDerivative[Path]) -> Mapping[str, Any]:
    return {
        "path": str(made.content),
        "of": made.of,
        "kind": made.kind,
        "builder": made.builder,
        "properties": made.properties,
    }


def _edit(edit: Edit[Path]) -> Mapping[str, Any]:
    if isinstance(edit, PutEntry):
        return {
            "put": edit.at,
            "path": str(edit.content),
            "existing": edit.existing,
            "mtime": edit.mtime,
        }
    if isinstance(edit, PutFolder):
        return {"folder": edit.at, "mtime": edit.mtime}
    return {"remove": edit.at}


def _describe_all(job: IndexJob, events: EventWriter) -> Message:
    from aerotask.metadata.extract import extract_metadata  # noqa: PLC0415  preloaded; brings GDAL along

    until = time.monotonic() + job.batch_s
    for entry_id, file in job.files:
        events.send(Message("begun", {"id": entry_id}))
        failpoint("index-reading")
        with cpu_deadline(job.file_cpu_s):
            try:
                found = extract_metadata(Path(file))
            except MemoryError:
                found = too_large_to_read()
        if Path(file).exists():
            events.send(Message("described", {"id": entry_id, **found.to_json()}))
        else:  # the storage has vanished meanwhile
            events.send(Message("missing", {"id": entry_id}))
        if time.monotonic() > until:
            break
    return Message("done")


def _make_overviews(job: OverviewsJob) -> Message:
    from aerotask.derivatives.overviews import build_overviews  # noqa: PLC0415  as above

    failpoint("overviews-reading")
    with cpu_deadline(job.cpu_s):
        properties = build_overviews(Path(job.source), Path(job.target), threads=job.threads)
    return Message("done", {"properties": properties})


def _describe_failure(error: BaseException, workdir: str) -> Mapping[str, Any]:
    if isinstance(error, AerotaskError) and (cause := cause_of(error)):
        _log.warning("%s: %s", error.code, cause)
    if isinstance(error, TaskFailed):
        return _body(error.code, error.message, retryable=error.retryable, again=error.retryable)
    if isinstance(error, InvalidInput):
        return _body(error.code, error.message)
    if isinstance(error, MemoryError):
        return _body(
            "out-of-memory", "The tool needed more memory than planned; try a smaller input, or report it."
        )
    if is_disk_full(error) or (workdir and has_hardly_any_space(Path(workdir))):
        # Not retried automatically: that would fill the shared disk once more before an operator makes room.
        return _body("disk-full", "The storage is full; free some space, then retry.", retryable=True)
    # A bug of the tool. Texts of foreign exceptions name files of the server, so clients learn only their type.
    _log.error("unexpected error of a tool", exc_info=error)
    kind = error.message if isinstance(error, AerotaskError) else type(error).__name__
    return _body(
        "tool-error",
        f"The tool failed unexpectedly ({kind.rstrip('.')}). The administrator finds the details in the worker's log under "
        "this task's id.",
    )


def _body(code: str, message: str, *, retryable: bool = False, again: bool = False) -> Mapping[str, Any]:
    """`retryable`: a retry by the user may help; `again`: the worker should retry by itself."""
    return {"code": code, "message": clean_line(message), "retryable": retryable, "again": again}


def _preload() -> Callable[[socket.socket], None]:
    import rasterio  # noqa: F401, PLC0415  the reason for the fork server: GDAL takes long to load

    import aerotask.derivatives.overviews  # noqa: PLC0415
    import aerotask.metadata.extract  # noqa: F401, PLC0415

    registry = load_registry()
    for tool in registry.all():
        tool.preload()
    return ToolChild(registry).serve


if __name__ == "__main__":
    forkserver.main(_preload)

"""What a forked child does: one job, under limits, telling its socket how it goes."""

from __future__ import annotations

import errno
import faulthandler
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from aerotask.domain.errors import AerotaskError, InvalidInput, TaskFailed
from aerotask.domain.text_cleaning import clean_json, clean_line
from aerotask.registry import Registry
from aerotask.sandbox import confinement
from aerotask.sandbox.limits import limit_memory, lower
from aerotask.sdk.changes import ChangeSet, Edit, PutDerivative, PutEntry, PutFolder
from aerotask.sdk.context import Cancelled
from aerotask.sdk.limits import Limits
from aerotask.sdk.run import LogLine, Run, RunProgress
from aerotask.sdk.snapshot import Snapshot
from aerotask.worker.descriptions import write_descriptions
from aerotask.worker.protocol import IndexJob, Job, ToolJob, decode_job, encode_event

# How often progress is worth a message; the worker writes it once a second at most.
PROGRESS_S = 0.1
NICE = 5
OPEN_FILES = 1024
EDITS_PER_MESSAGE = 1000
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class EventWriter:
    """Sends events, from any thread of the child."""

    def __init__(self, own: socket.socket) -> None:
        self._own = own
        self._lock = threading.Lock()
        self._next_progress = 0.0
        self._phase: str | None = None

    def tell(self, what: str, **body: Any) -> None:
        """Send one event."""
        line = encode_event(what, body)
        with self._lock:
            self._own.sendall(line)

    def emit(self, event: RunProgress | LogLine) -> None:
        """Send what a run emits, leaving out progress that nobody could see."""
        if isinstance(event, LogLine):
            self.tell("log", line=event.text)
            return
        now = time.monotonic()
        if now < self._next_progress and event.phase == self._phase and event.fraction < 1:
            return
        self._next_progress, self._phase = now + PROGRESS_S, event.phase
        self.tell("progress", fraction=event.fraction, phase=event.phase)


def run_child(own: socket.socket, registry: Registry) -> None:
    """Read a job from the socket and do it; the last event says how it ended."""
    faulthandler.enable(sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _raise_cancelled)
    teller = EventWriter(own)
    workdir: str | None = None
    try:
        with own.makefile("rb") as lines:
            job = decode_job(lines.readline())
        workdir = job.workdir if isinstance(job, ToolJob) else None
        _limit(job)
        _confine(job, registry)
        if isinstance(job, IndexJob):
            _describe_all(job, teller)
        else:
            _tell_changes(_run_tool(job, registry, teller), Path(job.workdir), teller)
    except Cancelled:
        teller.tell("cancelled")
    # The edge of the process: whatever it was, the worker is told.
    except BaseException as error:  # noqa: BLE001
        teller.tell("failed", **_failure(error, workdir))


def _raise_cancelled(_number: int, _frame: object) -> None:
    raise Cancelled


def _limit(job: Job) -> None:
    """Bound what a run can take from its neighbours."""
    os.nice(NICE)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    if isinstance(job, ToolJob):
        lower(resource.RLIMIT_FSIZE, job.max_file_bytes)
    limit_memory(job.memory_bytes)


def _confine(job: Job, registry: Registry) -> None:
    """Leave a run what it was lent, and a folder for all that it writes."""
    if isinstance(job, IndexJob):
        own, lent = Path(job.folder, "tmp"), [Path(job.folder)]
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        shared: list[Path] = []
    else:
        tool = registry.get(job.tool_id, job.tool_version)
        own, lent = Path(job.workdir), [Path(job.reads)] if job.reads else []
        shared = [Path(folder) for folder in tool.folders]
        if tool.network:
            return
    # Libraries and programs that want a temporary file.
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)
    confinement.confine(reads=lent, writes=[own, *shared])


def _run_tool(job: ToolJob, registry: Registry, teller: EventWriter) -> ChangeSet:
    tool = registry.get(job.tool_id, job.tool_version)
    params = tool.params.model_validate_json(orjson.dumps(job.params))
    workdir = Path(job.workdir)
    os.chdir(workdir)
    run = Run(
        inputs={path: Path(file) for path, file in job.inputs.items()},
        workdir=workdir,
        threads=job.threads,
        emit=teller.emit,
        limits=Limits(**job.limits),
        snapshot=Snapshot(job.slug, None if job.snapshot is None else Path(job.snapshot)),
        derived=frozenset(job.derived),
    )
    tool.run(params, run)
    return run.changes()


def _tell_changes(changes: ChangeSet, workdir: Path, teller: EventWriter) -> None:
    """Say what was declared, the edits a batch at a time: a message has a largest length."""
    edits = iter(changes.edits)
    while batch := [_edit(edit) for edit in islice(edits, EDITS_PER_MESSAGE)]:
        teller.tell("edits", edits=batch)
    artifacts = [
        {
            "path": str(artifact.path),
            "name": artifact.name,
            "mediaType": artifact.media_type,
            "sha256": artifact.sha256,
        }
        for artifact in changes.artifacts
    ]
    # Of a whole dataset they would be too long for a line.
    descriptions = write_descriptions(changes.descriptions, workdir) if changes.descriptions else None
    teller.tell(
        "done",
        artifacts=artifacts,
        derivatives=[_derivative(made) for made in changes.derivatives],
        result=changes.result,
        descriptions=descriptions,
    )


def _derivative(made: PutDerivative) -> Mapping[str, Any]:
    return {
        "path": str(made.path),
        "of": made.of,
        "kind": made.kind,
        "builder": made.builder,
        "properties": made.properties,
    }


def _edit(edit: Edit) -> Mapping[str, Any]:
    if isinstance(edit, PutEntry):
        return {"put": edit.at, "path": str(edit.path), "existing": edit.existing}
    return {"folder": edit.at} if isinstance(edit, PutFolder) else {"remove": edit.at}


def _describe_all(job: IndexJob, teller: EventWriter) -> None:
    from aerotask.metadata.extract import extract_metadata  # noqa: PLC0415  preloaded; brings GDAL along

    for entry_id, file in job.files:
        teller.tell("begun", id=entry_id)
        found = extract_metadata(Path(file))
        teller.tell(
            "described",
            id=entry_id,
            type=found.type,
            properties=clean_json(found.properties),
            point=found.point,
            polygon=found.polygon,
        )
    teller.tell("done")


def _failure(error: BaseException, workdir: str | None) -> Mapping[str, Any]:
    if isinstance(error, TaskFailed):
        return _told(error.code, error.message, retryable=error.retryable, again=error.retryable)
    if isinstance(error, InvalidInput):
        return _told(error.code, error.message)
    if isinstance(error, MemoryError):
        return _told(
            "out-of-memory",
            "The tool needed more memory than it had planned; try a smaller input, or report it.",
        )
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        # For a person to retry who has made room: by itself it would fill the neighbours' disk once more.
        return _told("disk-full", "The storage is full; free space, then retry.", retryable=True)
    # A fault of the tool itself: the trace is for the operator's log, a short form for the client.
    traceback.print_exception(error)
    detail = error.message if isinstance(error, AerotaskError) else f"{type(error).__name__}: {error}"
    if workdir:
        detail = detail.replace(workdir, "…")
    return _told("tool-error", f"The tool failed unexpectedly ({detail}).")


def _told(code: str, message: str, *, retryable: bool = False, again: bool = False) -> Mapping[str, Any]:
    """`retryable` tells people that trying again may help; `again` asks the worker to do it by itself."""
    return {"code": code, "message": clean_line(message), "retryable": retryable, "again": again}

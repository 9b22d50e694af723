"""Program of the builder process (`python -m aerotask.derivatives.builder_process`).

A job's body is `{"kind", "source", "target", "threads"}`; the result's is the derivative's properties, or with
`failed` `{"error", "code", "message", "errno"}`. The causes of errors are logged.
"""

from __future__ import annotations

import logging
from pathlib import Path

from aerotask.derivatives.build import build
from aerotask.derivatives.kinds import DerivativeKind
from aerotask.domain.errors import AerotaskError, InvalidInput, cause_of
from aerotask.sandbox.child_log import forward_log
from aerotask.sandbox.child_loop import EventWriter, serve_stdio
from aerotask.sandbox.protocol import Message

_log = logging.getLogger(__name__)


def _build(job: Message, events: EventWriter) -> Message:
    forward_log(events)
    properties = build(
        DerivativeKind(job.body["kind"]),
        Path(job.body["source"]),
        Path(job.body["target"]),
        threads=job.body["threads"],
        on_progress=events.send_progress,
    )
    return Message("done", properties)


def _failure(error: BaseException) -> Message:
    if isinstance(error, AerotaskError):
        if cause := cause_of(error):
            _log.warning("%s: %s", error.code, cause)
        kind = "InvalidInput" if isinstance(error, InvalidInput) else "TaskFailed"
        return Message("failed", {"error": kind, "code": error.code, "message": error.message})
    if isinstance(error, MemoryError):
        return Message("failed", {"error": "MemoryError"})
    if isinstance(error, OSError) and error.errno:
        _log.warning("%s", error)
        return Message("failed", {"error": "OSError", "errno": error.errno})
    _log.error("unexpected error of a builder", exc_info=error)
    return Message("failed", {"error": "unexpected", "message": type(error).__name__})


if __name__ == "__main__":
    serve_stdio(_build, _failure)

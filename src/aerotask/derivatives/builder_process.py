"""Program of the builder process (`python -m aerotask.derivatives.builder_process`).

A job's body is `{"kind", "source", "target", "threads"}`; the result's is the derivative's properties, or with
`failed` `{"error", "code", "message", "errno"}`.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from aerotask.derivatives.build import build
from aerotask.derivatives.kinds import DerivativeKind
from aerotask.domain.errors import AerotaskError, InvalidInput
from aerotask.sandbox.child_loop import EventWriter, serve_stdio
from aerotask.sandbox.protocol import Message


def _build(job: Message, events: EventWriter) -> Message:
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
        kind = "InvalidInput" if isinstance(error, InvalidInput) else "TaskFailed"
        return Message("failed", {"error": kind, "code": error.code, "message": error.message})
    if isinstance(error, MemoryError):
        return Message("failed", {"error": "MemoryError"})
    if isinstance(error, OSError) and error.errno:
        return Message("failed", {"error": "OSError", "errno": error.errno})
    traceback.print_exception(error)
    return Message("failed", {"error": "unexpected", "message": type(error).__name__})


if __name__ == "__main__":
    serve_stdio(_build, _failure)

"""Program: makes the derivatives that it is told to, one after the other (`python -m aerotask.derivatives.builder_process`).

It reads one JSON object a line, `{"kind", "source", "target", "threads"}`, and answers with lines `{"progress": 0.5}`
and a last one, `{"done": properties}` or `{"failed": {"error", "code", "message", "errno"}}`. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

from aerotask.derivatives.build import build
from aerotask.derivatives.kinds import DerivativeKind
from aerotask.domain.errors import AerotaskError, InvalidInput

PROGRESS_S = 0.1


def main() -> None:
    """Answer on what was the standard output; whatever libraries print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        answer(answers, **_outcome(json.loads(line), answers))


def answer(answers: FileIO, **told: Any) -> None:
    """Write one line, whole."""
    answers.write(json.dumps(told).encode() + b"\n")


def _outcome(job: Mapping[str, Any], answers: FileIO) -> dict[str, Any]:
    next_s = 0.0

    def on_progress(share: float) -> None:
        nonlocal next_s
        now = time.monotonic()
        if now >= next_s:
            next_s = now + PROGRESS_S
            answer(answers, progress=share)

    try:
        properties = build(
            DerivativeKind(job["kind"]),
            Path(job["source"]),
            Path(job["target"]),
            threads=job["threads"],
            on_progress=on_progress,
        )
    # The process's edge: whatever it was, whoever asked is told, and the next job may be fine.
    except BaseException as error:  # noqa: BLE001
        return {"failed": _told(error)}
    return {"done": properties}


def _told(error: BaseException) -> dict[str, Any]:
    if isinstance(error, AerotaskError):
        kind = "InvalidInput" if isinstance(error, InvalidInput) else "TaskFailed"
        return {"error": kind, "code": error.code, "message": error.message}
    if isinstance(error, MemoryError):
        return {"error": "MemoryError"}
    if isinstance(error, OSError) and error.errno:
        return {"error": "OSError", "errno": error.errno}
    traceback.print_exception(error)
    return {"error": "unexpected", "message": type(error).__name__}


if __name__ == "__main__":
    main()

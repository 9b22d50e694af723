"""Program of a pooled child: jobs by their kind, one after the other, under limits."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aerotask.domain.errors import InvalidInput, cause_of
from aerotask.domain.text_cleaning import clean_line
from aerotask.sandbox.child_loop import serve_socket
from aerotask.sandbox.confinement import confine
from aerotask.sandbox.kernel.limits import limit_resources
from aerotask.sandbox.protocol import Message

OPEN_FILES = 256
MAX_TRACE_CHARS = 8000
FILE_BYTES = 64 * 1024 * 1024

Handler = Callable[[Mapping[str, Any]], Message]
"""Does the jobs of one kind; may raise `InvalidInput`; after any other error its process is replaced."""


def serve_jobs(
    own: socket.socket,
    handlers: Mapping[str, Handler],
    *,
    memory_bytes: int,
    reads: Sequence[Path],
    writes: Sequence[Path] = (),
) -> None:
    """Do the pool's jobs until the socket ends or a job fails unexpectedly."""
    limit_resources(memory_bytes=memory_bytes, open_files=OPEN_FILES, max_file_bytes=FILE_BYTES)
    confine(reads=reads, writes=writes, owned=None if writes else ())
    serve_socket(own, lambda job, _events: handlers[job.kind](job.body), _failure)


def _failure(error: BaseException) -> Message:
    if isinstance(error, InvalidInput):
        body = {"code": error.code, "message": clean_line(error.message), "cause": cause_of(error)}
        return Message("failed", body)
    if isinstance(error, MemoryError):
        code, message, trace = "out-of-memory", "It needs more memory than the limit for drawing.", None
    else:
        # The trace is for the operator's log alone.
        code, message = "drawing-failed", "It can't be drawn; the file may be damaged."
        trace = "".join(traceback.format_exception(error))[-MAX_TRACE_CHARS:]
    return Message("failed", {"code": code, "message": message, "trace": trace, "final": True})

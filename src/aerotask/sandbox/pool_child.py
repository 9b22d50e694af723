"""What a child of a pool does: one job after the other, under limits, until its socket ends."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.domain.text_cleaning import clean_line
from aerotask.sandbox.confinement import confine
from aerotask.sandbox.limits import limit_memory, lower
from aerotask.sandbox.protocol import PoolJob, Refusal, Reply, decode_job, encode_reply

NICE = 5
OPEN_FILES = 256
MAX_TRACE_CHARS = 8000
FILE_BYTES = 64 * 1024 * 1024

Handler = Callable[[Mapping[str, Any]], Reply]
"""Does the jobs of one kind; may raise `InvalidInput`, and after anything else its process is replaced."""


def serve_jobs(
    own: socket.socket,
    handlers: Mapping[str, Handler],
    *,
    memory_bytes: int,
    reads: Sequence[Path],
    writes: Sequence[Path] = (),
) -> None:
    """Do what the socket's other end asks for, until it ends or a job went wrong in a way that nobody foresaw."""
    faulthandler.enable(sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICE)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    limit_memory(memory_bytes)
    confine(reads=reads, writes=writes)
    with own.makefile("rb") as lines:
        for line in lines:
            reply = _answer(decode_job(line), handlers)
            own.sendall(encode_reply(reply))
            if isinstance(reply, Refusal) and reply.final:
                return


def _answer(job: PoolJob, handlers: Mapping[str, Handler]) -> Reply | Refusal:
    try:
        return handlers[job.kind](job.body)
    except InvalidInput as error:
        return Refusal(error.code, clean_line(error.message))
    except MemoryError:
        return Refusal("out-of-memory", "It takes more memory than is given to this.", final=True)
    # The edge of the process. The trace is for the operator's log alone.
    except Exception as error:  # noqa: BLE001
        trace = "".join(traceback.format_exception(error))[-MAX_TRACE_CHARS:]
        return Refusal(
            "drawing-failed", "It can't be drawn; the file may be damaged.", final=True, trace=trace
        )

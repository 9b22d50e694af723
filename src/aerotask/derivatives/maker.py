"""Has derivatives made in a process of its own, so that a file which brings a library down brings nothing else down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aerotask.derivatives.kinds import Kind
from aerotask.domain.errors import InvalidInput, TaskFailed

COMMAND = (sys.executable, "-m", "aerotask.derivatives.maker_process")


class Maker:
    """The process, begun when it is first needed, and again after it has crashed; it ends with the block."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    def build(
        self, kind: Kind, source: Path, target: Path, *, on_progress: Callable[[float], None]
    ) -> dict[str, Any]:
        """As `build.build`.

        Raises:
            InvalidInput, TaskFailed, OSError, MemoryError: as `build.build`.
            TaskFailed: besides, the process crashed (`build-crashed`) or failed unexpectedly (`build-failed`).
        """
        process = self._running()
        job = {"kind": kind, "source": str(source), "target": str(target), "threads": self._threads}
        try:
            _send(process, job)
            while line := _receive(process):
                if "done" in line:
                    properties: dict[str, Any] = line["done"]
                    return properties
                if "failed" in line:
                    raise _error(line["failed"])
                on_progress(line["progress"])
        except BrokenPipeError:
            pass
        raise self._crashed()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # In our own session and group: whoever kills us kills it too.
            self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    def _crashed(self) -> TaskFailed:
        status = self._end()
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return TaskFailed(
            f"The process that made it crashed ({how}); the file may be damaged.", code="build-crashed"
        )

    def _end(self) -> int:
        """End the process, whatever it is at; how it ended."""
        process, self._process = self._process, None
        if process is None:
            return 0
        crashed = process.poll()
        with process:
            process.kill()
        return process.returncode if crashed is None else crashed


def _send(process: subprocess.Popen[bytes], job: Mapping[str, Any]) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()


def _receive(process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The next line; None once the process has ended."""
    line = process.stdout.readline() if process.stdout is not None else b""
    if not line.endswith(b"\n"):
        process.wait()
        return None
    told: dict[str, Any] = json.loads(line)
    return told


def _error(told: Mapping[str, Any]) -> Exception:
    """What the process has told of, as it was raised there."""
    if told["error"] == "InvalidInput":
        return InvalidInput(told["message"], code=told["code"])
    if told["error"] == "TaskFailed":
        return TaskFailed(told["message"], code=told["code"])
    if told["error"] == "MemoryError":
        return MemoryError()
    if told["error"] == "OSError":
        return OSError(told["errno"], os.strerror(told["errno"]))
    return TaskFailed(f"It failed unexpectedly ({told['message']}).", code="build-failed")

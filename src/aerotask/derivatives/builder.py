"""Has derivatives made in a process of its own, so that a file which brings a library down brings nothing else down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aerotask.derivatives.kinds import DerivativeKind
from aerotask.derivatives.sources import paths_beside
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.sandbox.json_process import JsonProcess, ProcessEnded, ProcessTooSlow

MODULE = "aerotask.derivatives.builder_process"
_ADVANCE = 0.01


@dataclass(frozen=True, slots=True)
class TimeoutPolicy:
    """How long a job may take, and again whenever it has come a hundredth further.

    Rasters and clouds tell how far they are; of a vector file only whole layers count, which takes the whole file at
    the worst. A job that never ends comes no further at last, whatever it tells.
    """

    least_s: float = 300.0
    slowest_bytes_per_s: float = 100_000.0

    def for_bytes(self, source_bytes: int) -> float:
        """For a source of so many bytes."""
        return self.least_s + source_bytes / self.slowest_bytes_per_s


class BuilderProcess:
    """The process, begun when it is first needed, and again after it was lost; it ends with the block."""

    def __init__(self, threads: int, patience: TimeoutPolicy | None = None) -> None:
        self._threads = threads
        self._patience = patience or TimeoutPolicy()
        self._process: JsonProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    def build(
        self, kind: DerivativeKind, source: Path, target: Path, *, on_progress: Callable[[float], None]
    ) -> dict[str, Any]:
        """As `build.build`.

        Raises:
            InvalidInput, TaskFailed, OSError, MemoryError: as `build.build`.
            TaskFailed: besides, the process crashed (`build-crashed`), came no further (`build-timed-out`) or failed
                unexpectedly (`build-failed`).
        """
        patience_s = self._patience.for_bytes(_bytes_of(source))
        job = {"kind": kind, "source": str(source), "target": str(target), "threads": self._threads}
        try:
            return self._follow(job, patience_s, on_progress)
        except ProcessTooSlow:
            self._end()
            raise TaskFailed(
                f"Making it came no further for {patience_s:.0f} s and was ended; the file may be made to keep readers "
                "busy.",
                code="build-timed-out",
            ) from None
        except ProcessEnded as lost:
            self._end()
            raise TaskFailed(
                f"The process that made it crashed ({lost.how}); the file may be damaged.",
                code="build-crashed",
            ) from None

    def _follow(
        self, job: Mapping[str, Any], patience_s: float, on_progress: Callable[[float], None]
    ) -> dict[str, Any]:
        process = self._process = self._process or JsonProcess(MODULE)
        process.tell(job)
        until, reached = time.monotonic() + patience_s, 0.0
        while True:
            line = process.hear(until=until)
            if "done" in line:
                properties: dict[str, Any] = line["done"]
                return properties
            if "failed" in line:
                raise _error(line["failed"])
            share = float(line["progress"])
            if share >= reached + _ADVANCE:
                until, reached = time.monotonic() + patience_s, share
            on_progress(share)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


def _bytes_of(source: Path) -> int:
    """Of the file with those that belong to it."""
    files = (source, *map(Path, paths_beside(str(source))))
    return sum(file.stat().st_size for file in files if file.is_file())


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

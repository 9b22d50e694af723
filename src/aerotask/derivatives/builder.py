"""Client of the builder process: a file that crashes or hangs it fails only its own job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.derivatives.kinds import DerivativeKind
from aerotask.derivatives.sources import side_files
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.sandbox.json_process import JsonProcess, ProcessCrashed, ProcessTimeout
from aerotask.sandbox.protocol import Message


@dataclass(frozen=True, slots=True)
class TimeoutPolicy:
    """Timeout for a job, restarted at each percent of progress.

    Rasters and point clouds report progress; of a vector file only whole layers count, which takes the whole file at
    worst. A job that never ends stops making progress in the end, whatever it reports.
    """

    min_s: float = 300.0
    min_bytes_per_s: float = 100_000.0

    def for_bytes(self, source_bytes: int) -> float:
        """Timeout for a source of this size."""
        return self.min_s + source_bytes / self.min_bytes_per_s


class BuilderProcess(JsonProcess):
    """Process that builds derivatives one after the other, restarted after a crash."""

    def __init__(self, threads: int, timeouts: TimeoutPolicy | None = None) -> None:
        super().__init__("aerotask.derivatives.builder_process")
        self._threads = threads
        self._timeouts = timeouts or TimeoutPolicy()

    def build(
        self, kind: DerivativeKind, source: Path, target: Path, *, on_progress: Callable[[float], None]
    ) -> Mapping[str, Any]:
        """As `build.build`.

        Raises:
            InvalidInput, TaskFailed, OSError, MemoryError: as `build.build`.
            TaskFailed: also if the process crashed (`build-crashed`), made no progress (`build-timed-out`) or failed
                unexpectedly (`build-failed`).
        """
        body = {"kind": kind, "source": str(source), "target": str(target), "threads": self._threads}
        timeout_s = self._timeouts.for_bytes(_total_bytes(source))
        try:
            result = self.run(Message("build", body), timeout_s=timeout_s, on_progress=on_progress)
        except ProcessTimeout as error:
            raise TaskFailed(
                f"The build made no progress for {error.timeout_s:.0f} s and was ended; the file may be made to keep "
                "readers busy.",
                code="build-timed-out",
            ) from None
        except ProcessCrashed as error:
            raise TaskFailed(
                f"The build process crashed ({error.cause}); the file may be damaged.",
                code="build-crashed",
            ) from None
        if result.kind != "done":
            raise _error(result.body)
        return result.body


def _total_bytes(source: Path) -> int:
    """Size of the file and the files that belong to it."""
    siblings = {str(path) for path in source.parent.iterdir()}
    files = (source, *map(Path, side_files(str(source), siblings)))
    return sum(file.stat().st_size for file in files if file.is_file())


def _error(failure: Mapping[str, Any]) -> Exception:
    """The error of the process, as it was raised there."""
    if failure["error"] == "InvalidInput":
        return InvalidInput(failure["message"], code=failure["code"])
    if failure["error"] == "TaskFailed":
        return TaskFailed(failure["message"], code=failure["code"])
    if failure["error"] == "MemoryError":
        return MemoryError()
    if failure["error"] == "OSError":
        return OSError(failure["errno"], os.strerror(failure["errno"]))
    return TaskFailed(
        f"The build failed unexpectedly ({failure['message']}). The administrator finds the details in the worker's log "
        "under this task's id.",
        code="build-failed",
    )

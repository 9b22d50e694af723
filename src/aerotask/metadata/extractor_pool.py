"""Pool of extractor processes: metadata of many files, where a file that crashes or hangs a process costs only itself."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGPROF
from typing import Any

from aerotask.metadata.file_types import EntryType
from aerotask.metadata.model import FileMetadata, given_up
from aerotask.metadata.timeouts import MIN_BYTES_PER_S, extraction_timeout_s
from aerotask.sandbox.json_process import JsonProcess, ProcessCrashed, ProcessTimeout
from aerotask.sandbox.protocol import Message

MODULE = "aerotask.metadata.extractor_process"
START_TIMEOUT_S = 120.0
MAX_ATTEMPTS = 3
"""Attempts to read a file whose process is lost, which says nothing about the file."""
_MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class ExtractedMetadata:
    """Metadata of one file, and the SHA-256 of its content."""

    path: str
    sha256: str
    description: FileMetadata


@contextmanager
def extracting(files: Mapping[str, Path], *, processes: int) -> Iterator[Iterator[ExtractedMetadata]]:
    """The metadata of each file by its path, in order of completion; leaving the block ends the processes."""
    work = _Extraction(files, processes=max(min(processes, len(files)), 1))
    work.start()
    try:
        yield work.results()
    finally:
        work.stop()


class _Extraction:
    """The files, shared by threads that each feed one process."""

    def __init__(self, files: Mapping[str, Path], *, processes: int) -> None:
        self._total = len(files)
        self._waiting = iter(files.items())
        self._lock = threading.Lock()
        self._results: queue.Queue[ExtractedMetadata | BaseException] = queue.Queue(_MAX_WAITING)
        self._stopped = threading.Event()
        self._processes = [JsonProcess(MODULE, start_timeout_s=START_TIMEOUT_S) for _ in range(processes)]
        self._threads = [
            threading.Thread(target=self._feed, args=(process,), name=f"extractor-{number}", daemon=True)
            for number, process in enumerate(self._processes)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[ExtractedMetadata]:
        for _ in range(self._total):
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            yield result

    def stop(self) -> None:
        self._stopped.set()
        for process in self._processes:
            process.kill()
        for thread in self._threads:
            thread.join()

    def _feed(self, process: JsonProcess) -> None:
        try:
            with process:
                while (item := self._next()) is not None:
                    path, file = item
                    answer = _ask(process, file)
                    if self._stopped.is_set():
                        return
                    self._put(_metadata(path, file, answer))
        # The thread's edge: otherwise `results` would wait for ever.
        except BaseException as error:  # noqa: BLE001
            self._put(error)

    def _next(self) -> tuple[str, Path] | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._waiting, None)

    def _put(self, result: ExtractedMetadata | BaseException) -> None:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._results.put(result, timeout=1)
                return


def _ask(process: JsonProcess, file: Path) -> Mapping[str, Any] | str:
    """The process's result for the file, or the reason why there is none."""
    file_bytes, cause = file.stat().st_size, ""
    timeout_s = extraction_timeout_s(file_bytes) + file_bytes / MIN_BYTES_PER_S  # it is hashed too
    for _ in range(MAX_ATTEMPTS):
        try:
            return process.run(Message("extract", {"path": str(file)}), timeout_s=timeout_s).body
        except ProcessTimeout as error:
            return f"it took longer than {error.timeout_s:.0f} s"
        except ProcessCrashed as error:
            cause = error.cause
            if error.signal == SIGPROF:  # it would take as long again
                break
    return cause


def _metadata(path: str, file: Path, answer: Mapping[str, Any] | str) -> ExtractedMetadata:
    if isinstance(answer, str):
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        return ExtractedMetadata(path, sha256, given_up(path, answer, attempt=MAX_ATTEMPTS))
    description = FileMetadata(
        EntryType(answer["type"]), answer["properties"], answer["point"], answer["polygon"]
    )
    return ExtractedMetadata(path, str(answer["sha256"]), description)

"""Describes many files in processes of their own, so that one that crashes or hangs takes nothing with it."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.metadata.file_types import EntryType
from aerotask.metadata.model import FileMetadata, extraction_failed
from aerotask.metadata.timeouts import patience_s
from aerotask.sandbox.json_process import JsonProcess, ProcessEnded, ProcessTooSlow

START_TIMEOUT_S = 120.0
_MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class ExtractedMetadata:
    """What was found of one file, and the SHA-256 of its content."""

    path: str
    sha256: str
    description: FileMetadata


@contextmanager
def describing(files: Mapping[str, Path], *, processes: int) -> Iterator[Iterator[ExtractedMetadata]]:
    """What is found of each file by its path, as it comes; leaving the block ends the processes."""
    work = _FileQueue(files)
    workers = [
        threading.Thread(target=work.run, name=f"reader-{number}", daemon=True)
        for number in range(max(min(processes, len(files)), 1))
    ]
    for worker in workers:
        worker.start()
    try:
        yield work.results()
    finally:
        work.stop()
        for worker in workers:
            worker.join()


class _FileQueue:
    """The files to be described, shared by threads that each feed one process."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._total = len(files)
        self._waiting = iter(files.items())
        self._lock = threading.Lock()
        self._found: queue.Queue[ExtractedMetadata | BaseException] = queue.Queue(_MAX_WAITING)
        self._stopped = threading.Event()
        self._readers: set[_ExtractorProcess] = set()

    def results(self) -> Iterator[ExtractedMetadata]:
        for _ in range(self._total):
            found = self._found.get()
            if isinstance(found, BaseException):
                raise found
            yield found

    def run(self) -> None:
        try:
            self._describe_all()
        # The thread's edge: whoever waits for results must learn of it.
        except BaseException as error:  # noqa: BLE001
            self._tell(error)

    def stop(self) -> None:
        self._stopped.set()
        with self._lock:
            for reader in self._readers:
                reader.kill()

    def _describe_all(self) -> None:
        reader: _ExtractorProcess | None = None
        try:
            while (item := self._next()) is not None:
                if reader is None:
                    reader = self._start()
                path, file = item
                told = reader.ask(file)
                if self._stopped.is_set():
                    return
                if isinstance(told, str):
                    self._end(reader)
                    reader = None
                    self._tell(ExtractedMetadata(path, _sha256(file), extraction_failed(told)))
                else:
                    self._tell(_found(path, told))
        finally:
            if reader is not None:
                self._end(reader)

    def _next(self) -> tuple[str, Path] | None:
        with self._lock:
            return None if self._stopped.is_set() else next(self._waiting, None)

    def _start(self) -> _ExtractorProcess:
        with self._lock:
            reader = _ExtractorProcess()
            self._readers.add(reader)
            return reader

    def _end(self, reader: _ExtractorProcess) -> None:
        with self._lock:
            self._readers.discard(reader)
        reader.end()

    def _tell(self, found: ExtractedMetadata | BaseException) -> None:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._found.put(found, timeout=1)
                return


class _ExtractorProcess:
    """One process of `aerotask.metadata.extractor_process`."""

    def __init__(self) -> None:
        self._process = JsonProcess("aerotask.metadata.extractor_process")
        self._starting_s = START_TIMEOUT_S

    def ask(self, file: Path) -> dict[str, Any] | str:
        """What the process says of the file, or what became of the process."""
        timeout_s = patience_s(file.stat().st_size) + self._starting_s
        self._starting_s = 0.0
        try:
            self._process.tell({"path": str(file)})
            return self._process.hear(until=time.monotonic() + timeout_s)
        except ProcessTooSlow:
            return f"it took longer than {timeout_s:.0f} s"
        except ProcessEnded:
            return "it ended its reader"

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._process.end()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _found(path: str, told: Mapping[str, Any]) -> ExtractedMetadata:
    description = FileMetadata(EntryType(told["type"]), told["properties"], told["point"], told["polygon"])
    return ExtractedMetadata(path, str(told["sha256"]), description)

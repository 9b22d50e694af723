"""SHA-256 of a file while it is being written, computed behind the writer in a thread of its own."""

from __future__ import annotations

import hashlib
import os
import threading
from types import TracebackType
from typing import Self

_READ_BYTES = 4 * 1024 * 1024


class TrailingHash:
    """Hashes a file up to a mark that its writer advances; bytes before the mark must not change any more.

    The bytes are read from the page cache, so hashing costs no disk access.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._ready = threading.Condition()
        self._mark = 0
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="trailing-hash", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._mark = 0  # the hash is no longer needed
        self._end()

    def advance(self, mark: int) -> None:
        """Declare all bytes before `mark` final."""
        with self._ready:
            self._mark = mark
            self._ready.notify()

    def hexdigest(self) -> str:
        """Hash of all bytes before the last mark."""
        self._end()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()

    def _end(self) -> None:
        with self._ready:
            self._ended = True
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._hash_to_end()
        except OSError as error:
            self._error = error

    def _hash_to_end(self) -> None:
        buffer = memoryview(bytearray(_READ_BYTES))
        done = 0
        while True:
            mark, ended = self._wait_beyond(done)
            while done < mark:
                got = os.preadv(self._descriptor, [buffer[: min(_READ_BYTES, mark - done)]], done)
                if not got:
                    raise OSError("the file was truncated while it was being hashed")
                self._digest.update(buffer[:got])
                done += got
            if ended:
                return

    def _wait_beyond(self, done: int) -> tuple[int, bool]:
        with self._ready:
            self._ready.wait_for(lambda: self._ended or self._mark > done)
            return self._mark, self._ended

"""The SHA-256 of a file that is being written, computed behind the writer by a thread of its own."""

from __future__ import annotations

import hashlib
import os
import threading
from types import TracebackType
from typing import Self

_READ_BYTES = 4 * 1024 * 1024


class TrailingHash:
    """Hashes a file up to a mark that its writer moves on; what lies before the mark must not change any more.

    The bytes come out of the page cache, so following costs no disk access.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._ready = threading.Condition()
        self._mark = 0
        self._ended = False
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="following hash", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._mark = 0  # nobody will ask for the rest
        self._end()

    def advance(self, mark: int) -> None:
        """Everything before `mark` is written for good."""
        with self._ready:
            self._mark = mark
            self._ready.notify()

    def hexdigest(self) -> str:
        """The hash of everything before the last mark."""
        self._end()
        if self._fault is not None:
            raise self._fault
        return self._digest.hexdigest()

    def _end(self) -> None:
        with self._ready:
            self._ended = True
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._follow()
        except OSError as error:
            self._fault = error

    def _follow(self) -> None:
        buffer = memoryview(bytearray(_READ_BYTES))
        done = 0
        while True:
            mark, ended = self._wait_beyond(done)
            while done < mark:
                got = os.preadv(self._descriptor, [buffer[: min(_READ_BYTES, mark - done)]], done)
                if not got:
                    raise OSError("the file became shorter while it was hashed")
                self._digest.update(buffer[:got])
                done += got
            if ended:
                return

    def _wait_beyond(self, done: int) -> tuple[int, bool]:
        with self._ready:
            self._ready.wait_for(lambda: self._ended or self._mark > done)
            return self._mark, self._ended

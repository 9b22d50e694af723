"""A Python program of ours that answers lines of JSON with lines of JSON, and is ended when it takes too long.

What may crash, hang or eat memory runs in one: it takes nothing with it but the job that it was at.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

_PIECE_BYTES = 64 * 1024
_POLL_MAX_S = 1_000_000.0


class ProcessLost(Exception):
    """The process gives no answer any more, and has been ended."""


class ProcessEnded(ProcessLost):
    """It has ended by itself, or somebody else has ended it; `how` names the signal or the status."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class ProcessTooSlow(ProcessLost):
    """It said nothing before the deadline."""


class JsonProcess:
    """A running `python -m MODULE`; in our own session and group, so whoever kills us kills it too."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._unread = bytearray()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one line; whether anybody is there to read it shows when the answer is awaited."""
        with suppress(BrokenPipeError):
            os.write(self._process.stdin.fileno(), orjson.dumps(message) + b"\n")  # type: ignore[union-attr]

    def hear(self, *, until: float) -> dict[str, Any]:
        """The next line, waited for until that moment of the monotonic clock.

        Raises:
            ProcessEnded: there will be none.
            ProcessTooSlow: there was none in time; the process has been killed.
        """
        while (end := self._unread.find(b"\n")) < 0:
            if not self._is_readable(until):
                self.end()
                raise ProcessTooSlow
            piece = os.read(self._process.stdout.fileno(), _PIECE_BYTES)  # type: ignore[union-attr]
            if not piece:
                raise ProcessEnded(_named(self._process.wait()))
            self._unread += piece
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        told: dict[str, Any] = orjson.loads(line)
        return told

    def kill(self) -> None:
        """End it from another thread: whoever is waiting for a line learns that it has ended."""
        self._process.kill()

    def end(self) -> None:
        """End it, whatever it is at, and reap it."""
        with self._process as process:
            process.kill()

    def _is_readable(self, until: float) -> bool:
        poll = select.poll()
        poll.register(self._process.stdout.fileno(), select.POLLIN)  # type: ignore[union-attr]
        left_s = min(max(until - time.monotonic(), 0), _POLL_MAX_S)
        return bool(poll.poll(left_s * 1000))


def _named(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"

"""Subprocess for jobs that may crash, hang or eat memory: restarted when it is lost, killed when a job takes too long."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from aerotask.sandbox.child_log import LOGGED, log_again
from aerotask.sandbox.exit_status import describe_exit
from aerotask.sandbox.protocol import FINAL_KINDS, Message, decode, encode

_CHUNK_BYTES = 64 * 1024
_POLL_MAX_S = 1_000_000.0
_PROGRESS_STEP = 0.01


class ProcessCrashed(Exception):
    """The process ended before it answered."""

    def __init__(self, cause: str, signal: int | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.signal = signal


class ProcessTimeout(Exception):
    """The process neither answered nor made progress in time, and was killed."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.timeout_s = timeout_s


class JsonProcess:
    """Process `python -m MODULE` (`child_loop.serve_stdio`), started for the first job; it ends with the block.

    It stays in the session and group of this process, so that killing those kills it too.
    """

    def __init__(self, module: str, *, start_timeout_s: float = 0.0) -> None:
        self._module = module
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = bytearray()
        self._lock = threading.Lock()
        self._killed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self, job: Message, *, timeout_s: float, on_progress: Callable[[float], None] = lambda _fraction: None
    ) -> Message:
        """The final message of the job; its timeout starts again at each hundredth of progress.

        What the process logs is logged here.

        Raises:
            ProcessCrashed, ProcessTimeout: the process is lost; the next job starts another.
        """
        if self._process is None:
            timeout_s += self._start_timeout_s
        process = self._process or self._start()
        # If it has died since, the missing answer shows it.
        with suppress(BrokenPipeError):
            os.write(process.stdin.fileno(), encode(job))  # type: ignore[union-attr]  # the pipe asked for
        deadline, reached = time.monotonic() + timeout_s, 0.0
        while (message := self._receive(process, deadline, timeout_s)).kind not in FINAL_KINDS:
            if message.kind == LOGGED:
                log_again(message.body)
                continue
            fraction = float(message.body.get("fraction", 0.0))
            if fraction >= reached + _PROGRESS_STEP:
                deadline, reached = time.monotonic() + timeout_s, fraction
            on_progress(fraction)
        return message

    def kill(self) -> None:
        """Kill the process for good, from any thread: a `run` that waits raises `ProcessCrashed`."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Kill the process, if it runs, and reap it."""
        with self._lock:  # otherwise `kill` could look at a process that is taken away meanwhile
            process, self._process = self._process, None
        self._unread.clear()
        if process is not None:
            with process:
                process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._killed:
                raise ProcessCrashed("it was killed")
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            return self._process

    def _receive(self, process: subprocess.Popen[bytes], deadline: float, timeout_s: float) -> Message:
        while (end := self._unread.find(b"\n")) < 0:
            if not _is_readable(process, deadline):
                self.close()
                raise ProcessTimeout(timeout_s)
            chunk = os.read(process.stdout.fileno(), _CHUNK_BYTES)  # type: ignore[union-attr]  # as above
            if not chunk:
                status = process.wait()
                self.close()
                raise ProcessCrashed(describe_exit(status), signal=-status if status < 0 else None)
            self._unread += chunk
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        try:
            return decode(line)
        except (ValueError, KeyError, TypeError) as error:
            self.close()
            raise ProcessCrashed("it sent a malformed message") from error


def _is_readable(process: subprocess.Popen[bytes], deadline: float) -> bool:
    poll = select.poll()
    poll.register(process.stdout.fileno(), select.POLLIN)  # type: ignore[union-attr]  # as above
    left_s = min(max(deadline - time.monotonic(), 0), _POLL_MAX_S)
    return bool(poll.poll(left_s * 1000))

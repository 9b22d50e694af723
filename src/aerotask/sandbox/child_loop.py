"""Job loop of a child process: reads jobs, sends events, and ends each job with one final message."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from aerotask.sandbox.protocol import FINAL_KINDS, Message, decode, encode

PROGRESS_INTERVAL_S = 0.1
"""Progress isn't sent more often; the worker writes it once a second at most."""


class EventWriter:
    """Sender of messages to the parent, for every thread of the child."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._next_progress = 0.0
        self._phase: str | None = None

    def send(self, message: Message) -> None:
        """Send one message, whole."""
        encoded = encode(message)
        with self._lock:
            self._write(encoded)

    def send_progress(self, fraction: float, phase: str | None = None) -> None:
        """Send how far the job is, unless the last report was a moment ago."""
        now = time.monotonic()
        if now < self._next_progress and phase == self._phase and fraction < 1:
            return
        self._next_progress, self._phase = now + PROGRESS_INTERVAL_S, phase
        self.send(Message("progress", {"fraction": fraction, "phase": phase}))


JobHandler = Callable[[Message, EventWriter], Message]
"""Does a job, sends its events, and returns its final message, or its request for inputs."""
ErrorHandler = Callable[[BaseException], Message]
"""The final message of a job that failed; with `final` in its body the process ends."""


def serve_socket(
    own: socket.socket,
    handle: JobHandler,
    on_error: ErrorHandler,
    *,
    on_sigterm: Callable[[int, Any], object] | signal.Handlers = signal.SIG_DFL,
    once: bool = False,
) -> None:
    """Do the jobs that come over the socket of a forked child, or one only, until the socket ends."""
    faulthandler.enable(sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_sigterm)
    with own.makefile("rb") as lines:
        _serve(lines, EventWriter(own.sendall), handle, on_error, once=once)


def serve_stdio(handle: JobHandler, on_error: ErrorHandler) -> None:
    """Do the jobs of standard input until it ends; whatever libraries print goes to the standard error output."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def write(encoded: bytes) -> None:
        results.write(encoded)
        results.flush()

    _serve(sys.stdin.buffer, EventWriter(write), handle, on_error)


def _serve(
    lines: IO[bytes], events: EventWriter, handle: JobHandler, on_error: ErrorHandler, *, once: bool = False
) -> None:
    while True:
        try:
            line = lines.readline()
            if not line:
                return
            result = handle(decode(line), events)
            events.send(result)
        # The edge of the process: the parent must learn of any failure, and the next job may be fine.
        except BaseException as error:  # noqa: BLE001
            result = on_error(error)
            events.send(result)
        if (once and result.kind in FINAL_KINDS) or (result.kind == "failed" and result.body.get("final")):
            return

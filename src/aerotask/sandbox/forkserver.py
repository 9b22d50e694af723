"""Fork server: a clean, preloaded process without secrets, from which children are forked.

A program that calls `main` is started as `python -m PROGRAM FD` and stays single-threaded, so that forking is
safe. Over the control socket `FD` (newline-separated JSON) its parent requests that it fork a child, passing the
child's own socket, or send a child a signal; it reports pids and exits. When the control socket ends, however the
parent died, it kills every child with its whole session. That includes a child that hangs in C code, which no thread
inside the child could end.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from aerotask.sandbox.kernel.undumpable import make_undumpable

MAX_MESSAGE = 64 * 1024
MAX_FDS = 64
_PR_SET_PDEATHSIG = 1


class ForkServer:
    """Server that forks children on request, and kills them at its own end."""

    def __init__(self, control: socket.socket, child: Callable[[socket.socket], None]) -> None:
        self._control = control
        self._child = child
        self._children: set[int] = set()
        self._unread = b""
        # Closed in a child: if children inherited them, their siblings' sockets would never end.
        self._own: list[socket.socket] = [control]
        self._unused: list[int] = []

    def serve(self) -> None:
        """Serve requests until the control socket ends."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.settimeout(0)
            self._own.append(end)
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as ready:
            ready.register(self._control, selectors.EVENT_READ)
            ready.register(woken, selectors.EVENT_READ)
            while True:
                readable = {key.fileobj for key, _ in ready.select()}
                if woken in readable:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                    self._reap()
                if self._control in readable and not self._handle_requests():
                    break
        for pid in self._children:
            _kill_session(pid)

    def _handle_requests(self) -> bool:
        data, received, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, MAX_FDS)
        if not data:
            return False
        self._unused += received
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "fork" in request:
                self._fork(request["fork"], self._unused.pop(0))
            elif request["pid"] in self._children:
                self._signal(request["pid"], request["signal"])
        return True

    def _fork(self, number: int, descriptor: int) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_child(descriptor)
        os.close(descriptor)
        self._children.add(pid)
        self._report({"forked": number, "pid": pid})

    def _become_child(self, descriptor: int) -> None:
        """Do the child's job, and never return."""
        status = 1
        try:
            parent = os.getppid()
            os.setsid()
            _die_with(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in self._own:
                inherited.close()
            for other in self._unused:
                os.close(other)
            with socket.socket(fileno=descriptor) as own:
                self._child(own)
            status = 0
        finally:
            os._exit(status)

    def _signal(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                _kill_session(pid)
            # To the process as well: a child that was just forked leads no session yet.
            os.kill(pid, number)

    def _reap(self) -> None:
        while self._children:
            # Peek first: until it is reaped, its pid and session id can't be reused by another process.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            _kill_session(ended.si_pid)
            _, status = os.waitpid(ended.si_pid, 0)
            self._children.discard(ended.si_pid)
            self._report({"pid": ended.si_pid, "status": os.waitstatus_to_exitcode(status)})

    def _report(self, report: dict[str, int]) -> None:
        self._control.sendall(json.dumps(report).encode() + b"\n")


def _kill_session(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the fork server dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main(preload: Callable[[], Callable[[socket.socket], None]]) -> None:
    """Serve the control socket whose descriptor is the first argument.

    `preload` imports the modules that every child needs, before the first fork, and returns the child's main function.

    Raises:
        RuntimeError: an import has started a thread.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the end of the control socket stops us
    make_undumpable()  # a child that patched this process would control all that are forked later
    child = preload()
    gc.collect()
    gc.freeze()  # so that the children's collections leave the shared pages alone
    threads = len(list(Path("/proc/self/task").iterdir())) if sys.platform == "linux" else 1
    if threads != 1:
        raise RuntimeError(f"an import started {threads - 1} threads; forking would not be safe")
    with socket.socket(fileno=int(sys.argv[1])) as control:
        ForkServer(control, child).serve()

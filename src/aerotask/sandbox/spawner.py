"""Client of a fork server: starts it, asks it for children, and learns of their exits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from signal import SIGKILL, Signals

import structlog

from aerotask import failpoints
from aerotask.aio import cancel_and_wait
from aerotask.sandbox.memory_watch import MemoryWatch
from aerotask.sandbox.output_log import log_output

START_TIMEOUT_S = 60.0
OUTPUT_GRACE_S = 5.0
"""Time for the rest of the children's output once the fork server has ended."""
WATCH_PERIOD_S = 1.0
"""Time between two looks at the memory of children and their processes."""
_WATCH_SHARE = 0.01
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Length of a child's message; a longer one ends the child."""
# Environment variables that children may see; settings and secrets are not among them.
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"),
    failpoints.VARIABLE,
)
_SET = {
    # One idle native thread would make forking unsafe; pixel work has threads of its own.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Inputs are single files: no sidecars, no network, a small cache.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": "48",
    "CPL_CURL_ENABLE_VSIMEM": "NO",
    "PROJ_NETWORK": "OFF",
    "PYTHONUNBUFFERED": "1",
    # No module of the folder in which we, or a tool's own processes, happen to be started.
    "PYTHONSAFEPATH": "1",
}

_log = structlog.get_logger(__name__)


class ForkServerGone(ConnectionError):
    """The fork server has ended, and every child with it."""


@dataclass(frozen=True, slots=True)
class Forked:
    """The fork server's report of a new child."""

    pid: int
    exited: asyncio.Future[int]


@dataclass(slots=True)
class Child:
    """A forked child: its socket's streams, and its exit status once it has exited."""

    pid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    exited: asyncio.Future[int]
    """The exit code, or the negative number of the signal that killed it."""
    memory_exceeded: bool = False
    """True if it was killed because it and its processes used too much memory together."""


@dataclass(slots=True)
class Spawner:
    """Starter of children. Each process of ours has its own fork server; when it dies, the next spawn restarts it."""

    program: str
    """The module that is run as the fork server, with the control socket's descriptor as its argument."""
    arguments: tuple[str, ...] = ()
    """Further arguments, for the children."""
    _process: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _listener: asyncio.Task[None] | None = None
    _output_logger: asyncio.Task[None] | None = None
    _forks: dict[int, asyncio.Future[Forked]] = field(default_factory=dict)
    _exits: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _number: int = 0
    _watched: dict[int, tuple[Child, int]] = field(default_factory=dict)
    """Children whose memory is watched, by pid, and their limits."""
    _watcher: asyncio.Task[None] | None = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self) -> None:
        """Start the fork server unless it runs; return when it can fork."""
        async with self._starting:
            if self._listener is not None and not self._listener.done():
                return
            await self._stop_server()
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(  # noqa: ASYNC220  returns once it has forked
                    [sys.executable, "-m", self.program, str(theirs.fileno()), *self.arguments],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    env=clean_environment(),
                    start_new_session=True,
                )
            if self._process.stdout is not None:
                logging = log_output(self._process.stdout, program=self.program)
                self._output_logger = asyncio.create_task(logging)
            ours.settimeout(0)
            self._control = ours
            self._listener = asyncio.create_task(self._listen(ours))

    async def spawn(self) -> Child:
        """A fresh child, waiting for its job.

        Raises:
            ForkServerGone: the fork server died meanwhile; the next call starts another.
        """
        await self.start()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                async with asyncio.timeout(START_TIMEOUT_S):
                    forked = await self._fork(theirs)
            reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        except BaseException:
            ours.close()  # which also ends a child that is forked later
            raise
        return Child(forked.pid, reader, writer, forked.exited)

    def signal(self, child: Child, number: Signals) -> None:
        """Send the child a signal, unless it has exited; SIGKILL goes to its whole session."""
        if self._control is not None and not child.exited.done():
            with contextlib.suppress(ForkServerGone):  # which kills it anyway
                self._send({"pid": child.pid, "signal": int(number)})

    def watch_memory(self, child: Child, limit_bytes: int) -> None:
        """Kill the child once it and the processes that it starts use more memory together."""
        if sys.platform != "linux" or child.exited.done():
            return
        self._watched[child.pid] = (child, limit_bytes)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())

    async def end(self, child: Child) -> None:
        """Kill the child with its whole session, wait for its exit, and close its socket."""
        self.signal(child, SIGKILL)
        await asyncio.shield(child.exited)
        child.writer.close()
        with contextlib.suppress(OSError):
            await child.writer.wait_closed()

    async def close(self) -> None:
        """Kill all children and end the fork server."""
        if self._watcher is not None:
            await cancel_and_wait(self._watcher)
        await self._stop_server()

    async def _watch(self) -> None:
        """Watch until no child is left, for a hundredth of the time at most."""
        watch = MemoryWatch()
        while self._watched:
            limits = {pid: limit_bytes for pid, (_, limit_bytes) in self._watched.items()}
            began = time.monotonic()
            for pid in await asyncio.to_thread(watch.over_limit, limits):
                if pid in self._watched:
                    child, limit_bytes = self._watched[pid]
                    _log.warning(
                        "child.memory_exceeded", program=self.program, pid=pid, limit_bytes=limit_bytes
                    )
                    child.memory_exceeded = True
                    self.signal(child, SIGKILL)
            await asyncio.sleep(max(WATCH_PERIOD_S, (time.monotonic() - began) / _WATCH_SHARE))

    async def _fork(self, childs_end: socket.socket) -> Forked:
        loop = asyncio.get_running_loop()
        self._number += 1
        forked: asyncio.Future[Forked] = loop.create_future()
        self._forks[self._number] = forked
        self._send({"fork": self._number}, childs_end)
        return await forked

    def _send(self, request: dict[str, int], *passed: socket.socket) -> None:
        if self._control is None:
            raise ForkServerGone("the fork server has ended")
        line = json.dumps(request).encode() + b"\n"
        try:
            # A request is some 50 bytes and the socket's buffer holds thousands of them.
            socket.send_fds(self._control, [line], [end.fileno() for end in passed])
        except OSError as error:
            raise ForkServerGone("the fork server has ended") from error

    async def _listen(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        unread = b""
        try:
            while data := await loop.sock_recv(control, 64 * 1024):
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    self._on_report(json.loads(line))
        except OSError as error:
            _log.warning("forkserver.lost", error=str(error))
        finally:
            self._on_server_end()

    def _on_report(self, report: dict[str, int]) -> None:
        pid = report["pid"]
        if "forked" in report:
            self._exits[pid] = asyncio.get_running_loop().create_future()
            waiting = self._forks.pop(report["forked"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(Forked(pid, self._exits[pid]))
            return
        self._watched.pop(pid, None)
        exited = self._exits.pop(pid, None)
        if exited is not None and not exited.done():
            exited.set_result(report["status"])

    def _on_server_end(self) -> None:
        """Fail the waiting forks; the kernel has killed the children."""
        for waiting in self._forks.values():
            if not waiting.done():
                waiting.set_exception(ForkServerGone("the fork server has ended"))
        for exited in self._exits.values():
            if not exited.done():
                exited.set_result(-int(SIGKILL))
        self._forks.clear()
        self._exits.clear()
        self._watched.clear()

    async def _stop_server(self) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
        if self._listener is not None:
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None
        if self._output_logger is not None:  # it ends with the last of the children, which are being killed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._output_logger, OUTPUT_GRACE_S)
            self._output_logger = None


def clean_environment() -> dict[str, str]:
    """The environment of the fork server and its children."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _SET

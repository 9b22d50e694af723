"""The other end of a fork server: starts it, asks it for children, hears of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from signal import Signals

import structlog

from aerotask import failpoints
from aerotask.sandbox.output_log import overhear

START_TIMEOUT_S = 60.0
LAST_WORDS_S = 5.0
"""How long is listened, once the fork server is gone, to what children still print."""
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Of what a child says; a longer line is the end of it."""
# What of our environment a child may see; settings and secrets are not in it.
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
    # No module of the folder that we, or a tool's own processes, happen to be started in.
    "PYTHONSAFEPATH": "1",
}

_log = structlog.get_logger(__name__)


class ForkServerGone(ConnectionError):
    """The fork server has ended, and every child with it."""


@dataclass(frozen=True, slots=True)
class Forked:
    """What the fork server tells of a new child."""

    pid: int
    exited: asyncio.Future[int]


@dataclass(slots=True)
class Child:
    """A forked child: its socket's streams, and its exit status once it has one."""

    pid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    exited: asyncio.Future[int]
    """The exit code, or the negative number of the signal that killed it."""


@dataclass(slots=True)
class Spawner:
    """Starts children. One fork server serves one process of ours; when it dies, the next child starts another."""

    program: str
    """The module that is run as the fork server, with the control socket's descriptor as its argument."""
    arguments: tuple[str, ...] = ()
    """More of them, for the children."""
    _process: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _listening: asyncio.Task[None] | None = None
    _overhearing: asyncio.Task[None] | None = None
    _forks: dict[int, asyncio.Future[Forked]] = field(default_factory=dict)
    _exits: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _number: int = 0
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self) -> None:
        """Start the fork server unless it runs; return when it can fork."""
        async with self._starting:
            if self._listening is not None and not self._listening.done():
                return
            await self._stop_former()
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
                overheard = overhear(self._process.stdout, program=self.program)
                self._overhearing = asyncio.create_task(overheard)
            ours.settimeout(0)
            self._control = ours
            self._listening = asyncio.create_task(self._listen(ours))

    async def spawn(self) -> Child:
        """A fresh child, waiting for its job.

        Raises:
            ForkServerGone: the fork server died meanwhile; asking again starts another.
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
        """Send the child a signal; SIGKILL goes to its whole session. Nothing happens once it has ended."""
        if self._control is not None and not child.exited.done():
            self._order({"pid": child.pid, "signal": int(number)})

    async def close(self) -> None:
        """Kill all children and end the fork server."""
        await self._stop_former()

    async def _fork(self, childs_end: socket.socket) -> Forked:
        loop = asyncio.get_running_loop()
        self._number += 1
        forked: asyncio.Future[Forked] = loop.create_future()
        self._forks[self._number] = forked
        self._order({"fork": self._number}, childs_end)
        return await forked

    def _order(self, order: dict[str, int], *handed: socket.socket) -> None:
        if self._control is None:
            raise ForkServerGone("the fork server has ended")
        line = json.dumps(order).encode() + b"\n"
        try:
            # An order is some 50 bytes and the socket's buffer holds thousands of them.
            socket.send_fds(self._control, [line], [end.fileno() for end in handed])
        except OSError as error:
            raise ForkServerGone("the fork server has ended") from error

    async def _listen(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        unread = b""
        try:
            while data := await loop.sock_recv(control, 64 * 1024):
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    self._note(json.loads(line))
        except OSError as error:
            _log.warning("forkserver.lost", error=str(error))
        finally:
            self._give_up()

    def _note(self, message: dict[str, int]) -> None:
        pid = message["pid"]
        if "forked" in message:
            self._exits[pid] = asyncio.get_running_loop().create_future()
            waiting = self._forks.pop(message["forked"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(Forked(pid, self._exits[pid]))
            return
        exited = self._exits.pop(pid, None)
        if exited is not None and not exited.done():
            exited.set_result(message["status"])

    def _give_up(self) -> None:
        """The fork server is gone, and the kernel has killed what it had forked."""
        for waiting in self._forks.values():
            if not waiting.done():
                waiting.set_exception(ForkServerGone("the fork server has ended"))
        for exited in self._exits.values():
            if not exited.done():
                exited.set_result(-int(Signals.SIGKILL))
        self._forks.clear()
        self._exits.clear()

    async def _stop_former(self) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
        if self._listening is not None:
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None
        if self._overhearing is not None:  # it ends with the last of the children, which are being killed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._overhearing, LAST_WORDS_S)
            self._overhearing = None


def clean_environment() -> dict[str, str]:
    """The environment of the fork server and its children."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _SET

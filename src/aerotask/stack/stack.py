"""Supervisor of the whole stack: servers, migration, API and workers, for `up`, `demo` and the tests."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from aerotask.domain.errors import Unavailable
from aerotask.stack import processes
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.listener import open_listener, url_of
from aerotask.stack.postgres import EmbeddedPostgres
from aerotask.stack.private_files import write_private
from aerotask.stack.servers import running_postgres, running_valkey
from aerotask.stack.supervisor import SupervisedPart
from aerotask.stack.valkey import EmbeddedValkey
from aerotask.stack.waiting import await_condition

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0
FIRST_ADMIN = "admin"
"""Name of the administrator that `migrate` creates."""


@dataclass(slots=True)
class Stack:
    """Running API and workers; each API process gets the listening socket, so that clients wait while it restarts."""

    environment: Mapping[str, str]
    listener: socket.socket
    servers: Mapping[str, EmbeddedPostgres | EmbeddedValkey]
    log: IO[bytes] | None
    api: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """URL of the API."""
        return url_of(self.listener)

    def start_api(self) -> None:
        """Start the API."""
        descriptor = self.listener.fileno()
        self.api = self._spawn("api", "--descriptor", str(descriptor), inherited=[descriptor])

    def await_api(self) -> None:
        """Wait until the API responds."""
        if not await_condition(self._responds, timeout_s=START_TIMEOUT_S):
            raise Unavailable("The API did not start; see its log.")

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        worker = self._spawn("worker")
        self.workers.append(worker)
        return worker

    def await_workers(self) -> None:
        """Wait until the workers are ready for tasks."""

        def ready() -> bool:
            if any(worker.poll() is not None for worker in self.workers):
                raise Unavailable("A worker did not start; see its log.")
            found = self._get("/readyz")
            return found is not None and json.loads(found)["workers"] >= len(self.workers)

        if not await_condition(ready, timeout_s=START_TIMEOUT_S):
            raise Unavailable("The workers did not start; see their log.")

    def stop(self) -> None:
        """Stop workers and API; the workers first, while the API still serves what they report."""
        running = [*self.workers, *([self.api] if self.api else [])]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in running:
            processes.stop(process, stop_signal=signal.SIGTERM, grace_s=STOP_GRACE_S)

    def parts(self) -> list[SupervisedPart]:
        """The servers, the API and the workers, for a supervisor."""
        servers = [_server_part(name, server) for name, server in self.servers.items()]
        workers = [self._worker_part(number) for number in range(len(self.workers))]
        return [
            *servers,
            SupervisedPart("API", lambda: self.api.poll() if self.api else None, self.start_api),
            *workers,
        ]

    def _worker_part(self, number: int) -> SupervisedPart:
        def exit_status() -> int | None:
            return self.workers[number].poll()

        def start() -> None:
            self.workers[number] = self._spawn("worker")

        return SupervisedPart(f"worker {number + 1}", exit_status, start)

    def _responds(self) -> bool:
        if self.api is not None and self.api.poll() is not None:
            raise Unavailable("The API did not start; see its log.")
        return self._get("/healthz") is not None

    def _get(self, path: str) -> bytes | None:
        """The body of the API's response, whatever its status; None while the API doesn't respond."""
        connection = HTTPConnection(self.address.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def _spawn(self, *arguments: str, inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        return processes.spawn(
            [sys.executable, "-m", "aerotask", *arguments],
            on_parent_death=signal.SIGTERM,
            env=self.environment,
            output=self.log,
            inherited=inherited,
        )


def _server_part(name: str, server: EmbeddedPostgres | EmbeddedValkey) -> SupervisedPart:
    return SupervisedPart(name, lambda: server.exit_status, server.start)


@contextmanager
def running_stack(  # noqa: PLR0913  the parts of a stack
    folder: OwnedFolder,
    *,
    listener: socket.socket | None = None,
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
    adopt_storage: bool = False,
) -> Iterator[Stack]:
    """Run the whole stack over the folder, with embedded servers where the environment sets no address.

    Without a `listener` the API listens on any free port. `settings` are further environment variables for the
    processes; `log` receives their output. The first administrator's password goes into the folder if it is generated. With
    `adopt_storage`, database and storage are joined although they may not belong together.

    Raises:
        Unavailable: a part doesn't start.
    """
    with ExitStack() as stack:
        listener = listener or stack.enter_context(open_listener("127.0.0.1", 0))
        environment = {**os.environ, **(settings or {})}
        servers: dict[str, EmbeddedPostgres | EmbeddedValkey] = {}
        if "AEROTASK_DATABASE_URL" not in environment:
            postgres = servers["Postgres"] = stack.enter_context(running_postgres(folder))
            environment["AEROTASK_DATABASE_URL"] = postgres.url
        if "AEROTASK_REDIS_URL" not in environment:
            valkey = servers["Valkey"] = stack.enter_context(running_valkey(folder))
            environment["AEROTASK_REDIS_URL"] = valkey.url
        environment.setdefault("AEROTASK_STORAGE_URL", storage_folder(folder.path).as_uri())
        environment.setdefault("AEROTASK_SECRET_KEY", _secret_key(folder.path))
        migrate(environment, log, password_file=admin_password_file(folder.path), adopt_storage=adopt_storage)
        environment.pop("AEROTASK_ADMIN_PASSWORD", None)  # for `migrate` alone
        running = Stack(environment, listener, servers, log)
        stack.callback(running.stop)
        running.start_api()
        for _ in range(workers):
            running.start_worker()
        running.await_api()
        running.await_workers()
        yield running


def admin_password_file(folder: Path) -> Path:
    """The file of the first administrator's password in a data folder."""
    return folder / "admin.password"


def secret_key_file(folder: Path) -> Path:
    """The file of the secret key in a data folder."""
    return folder / "secret.key"


def storage_folder(folder: Path) -> Path:
    """The storage of a data folder."""
    return folder / "storage"


def migrate(
    environment: Mapping[str, str],
    log: IO[bytes] | None = None,
    *,
    password_file: Path | None = None,
    adopt_storage: bool = False,
) -> None:
    """Migrate the database to the newest schema, and create its first administrator.

    A generated password is written to `password_file` if there is one, and printed otherwise.

    Raises:
        Unavailable: the migration failed; the reason is in the output.
    """
    command = [sys.executable, "-m", "aerotask", "migrate"]
    if password_file is not None:
        command += ["--password-file", str(password_file)]
    if adopt_storage:
        command += ["--adopt-storage"]
    done = subprocess.run(command, env=dict(environment), check=False, stderr=log)
    if done.returncode:
        raise Unavailable("The database migration failed; see its output.")


def _secret_key(folder: Path) -> str:
    file = secret_key_file(folder)
    if not file.is_file():
        write_private(file, secrets.token_urlsafe(48))
    return file.read_text(encoding="ascii")

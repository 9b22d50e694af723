"""Supervisor of the whole stack: servers, migration, API and workers, for `up`, `demo` and the tests."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from aerotask.domain.errors import Unavailable
from aerotask.stack import processes
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.postgres import EmbeddedPostgres
from aerotask.stack.servers import running_postgres, running_valkey
from aerotask.stack.valkey import EmbeddedValkey
from aerotask.stack.waiting import await_condition

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 20.0


@dataclass(slots=True)
class Stack:
    """Running API and workers; `address` is the URL of the API."""

    environment: Mapping[str, str]
    address: str
    servers: Mapping[str, EmbeddedPostgres | EmbeddedValkey]
    log: IO[bytes] | None
    api: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_api(self) -> None:
        """Start the API."""
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        self.api = self._spawn("api", "--host", host.strip("[]"), "--port", port)

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

    def stopped_part(self) -> str | None:
        """The name of a part that has stopped unexpectedly, or None."""
        for name, server in self.servers.items():
            if server.exit_status is not None:
                return name
        if self.api is not None and self.api.poll() is not None:
            return "the API"
        if any(worker.poll() is not None for worker in self.workers):
            return "a worker"
        return None

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

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        return processes.spawn(
            [sys.executable, "-m", "aerotask", *arguments],
            on_parent_death=signal.SIGTERM,
            env=self.environment,
            output=self.log,
        )


@contextmanager
def running_stack(  # noqa: PLR0913  the parts of a stack
    folder: OwnedFolder,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
) -> Iterator[Stack]:
    """Run the whole stack over the folder, with embedded servers where the environment sets no address.

    `port` 0 picks a free one. `settings` are further environment variables for the processes; `log` receives their
    output.

    Raises:
        Unavailable: a part doesn't start.
    """
    with ExitStack() as stack:
        environment = {**os.environ, **(settings or {})}
        servers: dict[str, EmbeddedPostgres | EmbeddedValkey] = {}
        if "AEROTASK_DATABASE_URL" not in environment:
            postgres = servers["Postgres"] = stack.enter_context(running_postgres(folder))
            environment["AEROTASK_DATABASE_URL"] = postgres.url
        if "AEROTASK_REDIS_URL" not in environment:
            valkey = servers["Valkey"] = stack.enter_context(running_valkey(folder))
            environment["AEROTASK_REDIS_URL"] = valkey.url
        environment.setdefault("AEROTASK_STORAGE_URL", (folder.path / "storage").as_uri())
        environment.setdefault("AEROTASK_SECRET_KEY", _secret_key(folder.path))
        migrate(environment, log)
        address = f"http://{host}:{port or _free_port(host)}"
        running = Stack(environment, address, servers, log)
        stack.callback(running.stop)
        running.start_api()
        for _ in range(workers):
            running.start_worker()
        running.await_api()
        running.await_workers()
        yield running


def migrate(environment: Mapping[str, str], log: IO[bytes] | None = None) -> None:
    """Migrate the database to the newest schema, and create its first administrator.

    Raises:
        Unavailable: the migration failed; the reason is in the output.
    """
    command = [sys.executable, "-m", "aerotask", "migrate"]
    done = subprocess.run(command, env=dict(environment), check=False, stderr=log)
    if done.returncode:
        raise Unavailable("The database migration failed; see its output.")


def _secret_key(folder: Path) -> str:
    file = folder / "secret.key"
    if not file.is_file():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as fresh:
            fresh.write(secrets.token_urlsafe(48))
    return file.read_text(encoding="ascii")


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port

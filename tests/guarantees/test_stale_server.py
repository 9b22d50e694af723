"""An embedded Postgres starts whatever program has its former process id, and never beside processes of itself."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.support.databases import run_sql
from tests.support.world import eventually

from aerotask.domain.errors import Unavailable
from aerotask.stack import postgres as embedded
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.postgres import EmbeddedPostgres


@contextmanager
def installed(data: Path) -> Iterator[EmbeddedPostgres]:
    """A server of its own folder, removed at the end."""
    with OwnedFolder(data) as folder:
        server = EmbeddedPostgres(folder)
        try:
            yield server
        finally:
            server.stop()
            folder.discard()


def process_of(server: EmbeddedPostgres) -> int:
    assert server._process is not None
    return server._process.pid


def crash(server: EmbeddedPostgres) -> int:
    """Kill the server alone, so that its files stay; its process id."""
    assert server._process is not None
    server._process.kill()
    server._process.wait()
    return server._process.pid


def test_a_process_id_that_belongs_to_another_postgres_now_does_not_hinder_the_start(tmp_path: Path) -> None:
    with installed(tmp_path / "a") as other, installed(tmp_path / "b") as server:
        other.start()
        server.start()
        asyncio.run(run_sql(server.url, "CREATE TABLE kept (n int)"))
        former = crash(server)
        for file in (server._data / "postmaster.pid", server._sockets / ".s.PGSQL.5432.lock"):
            content = file.read_text().replace(str(former), str(process_of(other)), 1)
            file.write_text(content)

        server.start()

        asyncio.run(run_sql(server.url, "SELECT n FROM kept"))
        asyncio.run(run_sql(other.url, "SELECT 1"))


async def freeze_a_session(server: EmbeddedPostgres) -> int:
    """A session's process, stopped."""
    connection = await asyncpg.connect(server.url)
    process_id = int(await connection.fetchval("SELECT pg_backend_pid()"))
    os.kill(process_id, signal.SIGSTOP)
    connection.terminate()
    return process_id


def test_no_server_starts_beside_a_session_that_outlived_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_GRACE_S", 0.5)
    with installed(tmp_path / "data") as server:
        server.start()
        session = asyncio.run(freeze_a_session(server))
        try:
            crash(server)

            with pytest.raises(Unavailable, match=r"previous Postgres of .* is still running"):
                server.start()
        finally:
            os.kill(session, signal.SIGCONT)
        eventually(lambda: not psutil.pid_exists(session))
        server.start()


def test_a_server_without_the_lock_is_recognised_by_its_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_GRACE_S", 0.5)
    with installed(tmp_path / "data") as running:
        running.start()
        (tmp_path / "data" / "postgres.lock").unlink()  # as with a server of an earlier version

        with pytest.raises(Unavailable, match="still running"):
            EmbeddedPostgres(running._folder).start()

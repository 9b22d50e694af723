"""The embedded servers start, keep data, and leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.support.databases import run_sql
from tests.support.world import eventually

from aerotask.domain.errors import Unavailable
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.postgres import EmbeddedPostgres
from aerotask.stack.servers import running_servers


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def test_data_survive_a_restart_and_a_crash(tmp_path: Path) -> None:
    with OwnedFolder(tmp_path / "data") as folder:
        try:
            with running_servers(folder) as servers:
                asyncio.run(run_sql(servers.postgres.url, "CREATE TABLE kept AS SELECT 7 AS n"))
                servers.postgres.kill()
                servers.postgres.start()
                assert asyncio.run(fetch(servers.postgres.url, "SELECT n FROM kept")) == 7
            with running_servers(folder) as servers:
                assert asyncio.run(fetch(servers.postgres.url, "SELECT n FROM kept")) == 7
        finally:
            folder.discard()


def test_a_stopped_server_is_named(tmp_path: Path) -> None:
    with OwnedFolder(tmp_path / "data") as folder:
        try:
            with running_servers(folder, durable=False) as servers:
                assert servers.stopped_part() is None
                servers.valkey.stop()
                assert servers.stopped_part() == "Valkey"
        finally:
            folder.discard()


def test_the_error_of_a_server_that_cannot_start_has_the_reason(tmp_path: Path) -> None:
    with OwnedFolder(tmp_path / "data") as folder:
        try:
            postgres = EmbeddedPostgres(folder, options=("no_such_option=1",))
            with pytest.raises(Unavailable, match="no_such_option"):
                postgres.start()
        finally:
            folder.discard()


def test_both_servers_end_with_a_killed_supervisor_and_can_start_again(tmp_path: Path) -> None:
    program = f"""
import sys, time
from pathlib import Path
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import running_servers
with OwnedFolder(Path({str(tmp_path / "data")!r})) as folder, running_servers(folder) as servers:
    print(servers.postgres._process.pid, servers.valkey._process.pid, flush=True)
    time.sleep(600)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    with supervisor.stdout:
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.wait()
    with OwnedFolder(tmp_path / "data") as folder:
        try:
            with running_servers(folder):
                eventually(lambda: not any(map(psutil.pid_exists, pids)), timeout_s=10)
        finally:
            folder.discard()

"""`aerotask up` and `aerotask demo` from the command line."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import httpx
import psutil
import pytest
from tests.support.world import PASSWORD

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import LocalServers

START_TIMEOUT_S = 90


class Up:
    """A running `aerotask up`, whose output is read continuously."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._queue: Queue[str] = Queue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._queue.put(line)

    def await_line(self, pattern: str) -> re.Match[str]:
        while True:
            line = self._queue.get(timeout=START_TIMEOUT_S)
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()


@contextmanager
def up(data: Path, *options: str, settings: Mapping[str, str] | None = None) -> Iterator[Up]:
    """Run `aerotask up` over the folder, on any free port."""
    command = [sys.executable, "-m", "aerotask", "up", "--port", "0", "--data", str(data), *options]
    environment = {**os.environ, "COLUMNS": "200", **(settings or {})}
    running = Up(
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
    )
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder for a stack, discarded with its folder elsewhere."""
    folder = tmp_path / "data"
    yield folder
    OwnedFolder(folder).discard()


@contextmanager
def sign_in(address: str, password: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, trust_env=False) as client:
        response = client.post("/users/authenticate", json={"username": "admin", "password": password})
        client.headers["Authorization"] = f"Bearer {response.raise_for_status().json()['token']}"
        yield client


def test_up_prints_address_and_password_survives_restarts_and_refuses_a_folder_in_use(
    data: Path,
) -> None:
    with up(data, "--workers", "2") as first:
        password = first.await_line(r"password (\S+)")[1]
        address = first.await_line(r"Aerotask is at (http://127\.0\.0\.1:\d+)")[1]
        with sign_in(address, password) as client:
            client.post("/orgs", json={"slug": "kept"}).raise_for_status()
            assert client.get("/readyz").json()["workers"] == 2
        with up(data) as second:
            second.await_line(f"in use by the process with id {first.process.pid}")
            assert second.process.wait(START_TIMEOUT_S) == 1
        family = first.family()
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(START_TIMEOUT_S) == 0
        assert len(family) >= 6
        assert psutil.wait_procs(family, timeout=5)[1] == []
    with up(data) as again:
        address = again.await_line(r"Aerotask is at (http://127\.0\.0\.1:\d+)")[1]
        assert not any("password" in line for line in again.lines)
        with sign_in(address, password) as client:
            assert client.get("/orgs/kept").status_code == 200


def test_a_killed_supervisor_leaves_no_server_and_no_worker(data: Path) -> None:
    with up(data, settings={"AEROTASK_ADMIN_PASSWORD": PASSWORD}) as running:
        address = running.await_line(r"Aerotask is at (http://127\.0\.0\.1:\d+)")[1]
        with sign_in(address, PASSWORD):
            pass
        family = running.family()
        names = " ".join(" ".join(process.cmdline()) for process in family)
        for part in ("postgres", "valkey-server", "aerotask api", "aerotask worker", "worker.tool_child"):
            assert part in names

        running.process.kill()

        assert psutil.wait_procs(family, timeout=15)[1] == []


def test_a_part_that_stops_unexpectedly_stops_everything(data: Path) -> None:
    with up(data, settings={"AEROTASK_ADMIN_PASSWORD": PASSWORD}) as running:
        running.await_line(r"Aerotask is at (http://127\.0\.0\.1:\d+)")
        family = running.family()
        worker = next(process for process in family if "worker" in process.cmdline())

        worker.kill()

        running.await_line("a worker has stopped unexpectedly")
        assert running.process.wait(START_TIMEOUT_S) == 1
        assert psutil.wait_procs(family, timeout=5)[1] == []


def test_no_server_is_started_if_its_address_is_set(data: Path, servers: LocalServers) -> None:
    settings = {"AEROTASK_REDIS_URL": servers.valkey.url, "AEROTASK_ADMIN_PASSWORD": PASSWORD}
    with up(data, settings=settings) as running:
        address = running.await_line(r"Aerotask is at (http://127\.0\.0\.1:\d+)")[1]
        with sign_in(address, PASSWORD) as client:
            assert client.get("/readyz").status_code == 200
        names = " ".join(" ".join(process.cmdline()) for process in running.family())
        assert "postgres" in names
        assert "valkey" not in names


def test_a_missing_or_bad_setting_is_named() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AEROTASK")}
    environment["AEROTASK_SECRET_KEY"] = "too short"
    command = [sys.executable, "-m", "aerotask", "worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "AEROTASK_DATABASE_URL" in done.stderr
    assert "at least 32 characters" in done.stderr
    assert "too short" not in done.stderr


def test_the_demonstration_runs_the_whole_workflow(data: Path) -> None:
    command = [sys.executable, "-m", "aerotask", "demo", "--data", str(data)]
    environment = {**os.environ, "COLUMNS": "200"}
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    output = done.stdout
    for text in ("upload orthophoto.tif", "raster-export", "SHA-256", "seconds", "stop everything"):
        assert text in output
    artifact, picture = re.findall(r"at (\S+\.(?:tif|png))", output)
    assert Path(artifact).stat().st_size > 1_000_000
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    ours = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in before and str(data) in " ".join(process.info["cmdline"] or [])
    ]
    assert ours == []


def test_the_demonstration_reports_an_unreadable_file(data: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.tif"
    text.write_text("no raster", encoding="utf-8")
    command = [sys.executable, "-m", "aerotask", "demo", "--data", str(data), "--file", str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "raster" in done.stderr


def test_version_prints_the_version() -> None:
    command = [sys.executable, "-m", "aerotask", "version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)

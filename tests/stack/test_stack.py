"""`aerotask up` and `aerotask demo` from the command line."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.up import ADDRESS, START_TIMEOUT_S, sign_in, up
from tests.support.world import PASSWORD

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.servers import LocalServers


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder for a stack, discarded with its folder elsewhere."""
    folder = tmp_path / "data"
    yield folder
    OwnedFolder(folder).discard()


def aerotask(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AEROTASK")}
    return subprocess.run(
        [sys.executable, "-m", "aerotask", *arguments],
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_up_tells_address_and_password_survives_restarts_and_refuses_a_folder_in_use(data: Path) -> None:
    file = data / "admin.password"
    with up(data, "--workers", "2") as first:
        address = first.await_line(ADDRESS)[1]
        first.await_line(r"User +admin ")
        first.await_line(rf"Password +in {file} ")
        first.await_line(rf"If it is lost +aerotask user reset-password admin --data {data} ")
        first.await_line(rf"Data +{data} ")
        first.await_line(rf"Stop .*kill {first.process.pid} ")
        password = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
        assert not any(password in line for line in first.lines)
        with sign_in(address, password) as client:
            client.post("/orgs", json={"slug": "kept"}).raise_for_status()
            assert client.get("/readyz").json()["workers"] == 2
        with up(data) as second:
            second.await_line(f"in use by the process with id {first.process.pid}")
            assert second.process.wait(START_TIMEOUT_S) == 1

        reset = aerotask("user", "reset-password", "admin", "--data", str(data))
        assert reset.returncode == 0, reset.stderr
        new_password = re.search(r"The password is (\S+)", reset.stdout)
        assert new_password is not None
        assert file.read_text().strip() == new_password[1] != password

        family = first.family()
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(START_TIMEOUT_S) == 0
        assert len(family) >= 6
        assert psutil.wait_procs(family, timeout=5)[1] == []
    with up(data) as again:
        address = again.await_line(ADDRESS)[1]
        with sign_in(address, new_password[1]) as client:
            assert client.get("/orgs/kept").status_code == 200


def test_up_on_a_port_in_use_says_so_before_it_makes_anything(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = aerotask("up", "--port", str(port), "--data", str(data))
    assert done.returncode == 1
    assert done.stderr == (
        f"Port {port} of 127.0.0.1 is in use, perhaps by an Aerotask that is already running; stop that program, or "
        "choose another port with --port.\n"
    )
    assert done.stdout == ""
    assert not data.exists()


def test_a_killed_supervisor_leaves_no_server_and_no_worker(data: Path) -> None:
    with up(data, settings={"AEROTASK_ADMIN_PASSWORD": PASSWORD}) as running:
        address = running.await_line(ADDRESS)[1]
        with sign_in(address, PASSWORD):
            pass
        family = running.family()
        names = " ".join(" ".join(process.cmdline()) for process in family)
        for part in ("postgres", "valkey-server", "aerotask api", "aerotask worker", "worker.tool_child"):
            assert part in names

        running.process.kill()

        assert psutil.wait_procs(family, timeout=15)[1] == []


def test_no_server_is_started_if_its_address_is_set(data: Path, servers: LocalServers) -> None:
    settings = {"AEROTASK_REDIS_URL": servers.valkey.url, "AEROTASK_ADMIN_PASSWORD": PASSWORD}
    with up(data, settings=settings) as running:
        address = running.await_line(ADDRESS)[1]
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

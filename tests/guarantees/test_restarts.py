"""A stack on one machine outlives the death of each of its processes, and stops when one dies again and again."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support.up import ADDRESS, START_TIMEOUT_S, Up, sign_in, up
from tests.support.world import PASSWORD, eventually

from aerotask.stack.folder import OwnedFolder

PROGRAMS = {
    "worker": "aerotask worker",
    "API": "aerotask api",
    "Valkey": "valkey-server",
    "Postgres": "bin/postgres",
}


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder for a stack, discarded at the end."""
    folder = tmp_path / "data"
    yield folder
    OwnedFolder(folder).discard()


def processes(running: Up, program: str) -> list[psutil.Process]:
    """The supervisor's own children that run the program."""
    children = psutil.Process(running.process.pid).children()
    return [child for child in children if program in " ".join(child.cmdline())]


def readiness(address: str) -> dict[str, object]:
    try:
        return dict(httpx.get(f"{address}/readyz", timeout=5, trust_env=False).json())
    except httpx.TransportError:
        return {}


def test_a_stack_restarts_each_process_that_dies_and_stops_when_one_dies_too_often(data: Path) -> None:
    with up(data, "--workers", "2", settings={"AEROTASK_ADMIN_PASSWORD": PASSWORD}) as running:
        address = running.await_line(ADDRESS)[1]
        assert readiness(address)["supervisor"] == {"restarts": 0, "restarting": []}
        with sign_in(address, PASSWORD) as client:
            client.post("/orgs", json={"slug": "kept"}).raise_for_status()

        for restarts, (part, program) in enumerate(PROGRAMS.items(), start=1):
            victim = processes(running, program)[0]
            victim.kill()

            assert "restart='1 of 5'" in running.await_line(rf"part\.stopped .*part='?{part}").string
            running.await_line(rf"part\.restarted .*part='?{part}")
            expected = {"workers": 2, "supervisor": {"restarts": restarts, "restarting": []}}
            eventually(lambda: expected.items() <= readiness(address).items())  # noqa: B023  used at once

        with sign_in(address, PASSWORD) as client:
            assert client.get("/orgs/kept").status_code == 200

        family = running.family()
        for _ in range(5):
            eventually(lambda: bool(processes(running, PROGRAMS["API"])), timeout_s=30)
            processes(running, PROGRAMS["API"])[0].kill()
            running.await_line(r"part\.(stopped|given_up) .*part='?API")
        running.await_line("API has stopped again after 5 restarts within 10 minutes")
        assert running.process.wait(START_TIMEOUT_S) == 1
        assert psutil.wait_procs(family, timeout=5)[1] == []

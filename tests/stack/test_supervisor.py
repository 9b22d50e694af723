"""Pauses, limit and report of restarts, with real processes and a clock of the test."""

import subprocess
from pathlib import Path

import pytest

from aerotask.domain.errors import Unavailable
from aerotask.services.system.supervision import Supervision, read_supervision
from aerotask.stack.supervisor import SupervisedPart, Supervisor


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Process:
    """A part whose process ends at once, or runs until it is killed."""

    def __init__(self, *command: str) -> None:
        self.command = command
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.running = subprocess.Popen(self.command)
        if self.command == ("false",):
            self.running.wait()

    def kill(self) -> None:
        self.running.kill()
        self.running.wait()

    def part(self, name: str) -> SupervisedPart:
        return SupervisedPart(name, self.running_status, self.start)

    def running_status(self) -> int | None:
        return self.running.poll()


def test_pauses_double_until_the_part_is_given_up(tmp_path: Path) -> None:
    clock, failing = Clock(), Process("false")
    supervisor = Supervisor([failing.part("worker 1")], tmp_path / "status", clock=clock)
    supervisor.check()
    for pause_s, starts in [(0.25, 2), (0.5, 3), (1.0, 4), (2.0, 5), (4.0, 6)]:
        clock.now_s += pause_s - 0.01
        supervisor.check()
        assert failing.starts == starts - 1
        clock.now_s += 0.01
        supervisor.check()
        assert failing.starts == starts
        if starts < 6:
            supervisor.check()

    with pytest.raises(Unavailable, match=r"Worker 1 has stopped again after 5 restarts .*exit status 1"):
        supervisor.check()


def test_restarts_of_more_than_ten_minutes_ago_are_forgotten(tmp_path: Path) -> None:
    clock, part = Clock(), Process("sleep", "600")
    supervisor = Supervisor([part.part("API")], tmp_path / "status", clock=clock)
    for _ in range(8):
        part.kill()
        supervisor.check()
        clock.now_s += 0.5
        supervisor.check()
        clock.now_s += 300
    assert part.starts == 9
    part.kill()


def test_the_status_names_what_is_down_and_counts_restarts(tmp_path: Path) -> None:
    clock, status = Clock(), tmp_path / "status"
    first, second = Process("sleep", "600"), Process("sleep", "600")
    supervisor = Supervisor([first.part("worker 1"), second.part("worker 2")], status, clock=clock)
    supervisor.check()
    assert read_supervision(status) is None
    second.kill()
    supervisor.check()
    assert read_supervision(status) == Supervision(0, ("worker 2",))
    clock.now_s += 1
    supervisor.check()
    assert read_supervision(status) == Supervision(1, ())
    assert (first.starts, second.starts) == (1, 2)
    first.kill()
    second.kill()


def test_a_failed_start_counts_as_a_stop(tmp_path: Path) -> None:
    clock, process = Clock(), Process("false")

    def fail() -> None:
        raise Unavailable("no room on the device")

    supervisor = Supervisor(
        [SupervisedPart("Valkey", process.running_status, fail)], tmp_path / "status", clock=clock
    )
    for _ in range(5):
        supervisor.check()
        clock.now_s += 10
    with pytest.raises(Unavailable, match=r"Valkey has stopped again .*no room on the device"):
        supervisor.check()

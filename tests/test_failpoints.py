"""The mechanism of failpoints; their effects are tested in `guarantees/test_failpoints.py`."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.support.world import eventually

from aerotask.domain.errors import InvalidInput
from aerotask.failpoints import POINTS, VARIABLE, ArmedFailpoint, FailpointAction, parse

SOURCE = Path(__file__).resolve().parents[1] / "src" / "aerotask"
PROGRAM = "from aerotask.failpoints import failpoint; failpoint('{}'); print('passed', flush=True)"


def run(point: str, *, armed: str) -> subprocess.CompletedProcess[str]:
    """Pass a failpoint once, in a subprocess."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(point)],
        env={**os.environ, VARIABLE: armed},
        capture_output=True,
        text=True,
        check=False,
    )


def failpoints_in_the_source() -> list[str]:
    calls = (
        node
        for module in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "failpoint"
    )
    return [str(ast.literal_eval(call.args[0])) for call in calls]


def test_every_failpoint_is_used_and_every_use_has_a_known_name() -> None:
    assert set(failpoints_in_the_source()) == set(POINTS)


def test_an_unarmed_failpoint_does_nothing() -> None:
    for armed in ("", "blob-renamed:kill"):
        assert run("blob-synced", armed=armed).stdout == "passed\n"


def test_kill_ends_the_process_as_sigkill_does() -> None:
    ended = run("blob-synced", armed="blob-renamed:stop,blob-synced:kill")
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "")


def test_error_raises_a_named_exception() -> None:
    ended = run("blob-synced", armed="blob-synced:error")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "FailpointError: [Errno 5] failpoint blob-synced" in ended.stderr


def test_stop_freezes_the_process_until_sigcont() -> None:
    command = [sys.executable, "-c", PROGRAM.format("task-claimed")]
    environment = {**os.environ, VARIABLE: "task-claimed:stop"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.read() == "passed\n"


def test_a_number_selects_one_pass() -> None:
    armed = parse("blob-synced:error@3")["blob-synced"]
    assert [armed.passed() for _ in range(5)] == [False, False, True, False, False]


def test_a_list_arms_several() -> None:
    assert parse("blob-synced:kill,task-claimed:stop@2") == {
        "blob-synced": ArmedFailpoint(FailpointAction.KILL),
        "task-claimed": ArmedFailpoint(FailpointAction.STOP, 2),
    }


@pytest.mark.parametrize(
    "wrong", ["no-such-point:kill", "blob-synced", "blob-synced:explode", "blob-synced:kill@0"]
)
def test_unknown_failpoints_and_actions_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="is not a failpoint"):
        parse(wrong)


def test_a_process_with_an_unknown_failpoint_does_not_start() -> None:
    environment = {
        **os.environ,
        "AEROTASK_DATABASE_URL": "postgresql://nowhere/x",
        "AEROTASK_REDIS_URL": "redis://127.0.0.1:1/0",
        "AEROTASK_STORAGE_URL": "file:///nowhere",
        "AEROTASK_SECRET_KEY": "a key for the tests, long enough to be one",
        VARIABLE: "no-such-point:kill",
    }
    command = [sys.executable, "-m", "aerotask", "worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'no-such-point:kill' is not a failpoint" in done.stderr

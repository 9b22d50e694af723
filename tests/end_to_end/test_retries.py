"""Retryable failures of a tool: retried automatically, with a delay, in the same task."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import StackFactory
from tests.support.world import World, eventually


def steps(task: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The task's transitions with reason and kind of actor, without the dispatch, which may be skipped."""
    return [
        (event["to"], event["reason"], event["by"].split()[0])
        for event in task["history"]
        if event["to"] != "Enqueued"
    ]


def at(task: dict[str, Any], state: str) -> datetime:
    """The time of the task's last transition to that state."""
    moments = [event["at"] for event in task["history"] if event["to"] == state]
    return datetime.fromisoformat(moments[-1])


def test_a_retryable_failure_is_retried_after_a_delay_in_the_same_task_and_log(
    world: World, tmp_path: Path
) -> None:
    dataset = world.dataset()
    task_id = dataset.submit("flaky", {"note": str(tmp_path / "note"), "fails": 1})
    eventually(lambda: dataset.status(task_id)["waitingFor"] == "retry-delay")
    waiting = dataset.status(task_id)

    task = dataset.wait(task_id)

    assert (waiting["state"], waiting["error"], waiting["progress"]["phase"]) == ("Scheduled", None, None)
    assert (task["state"], task["attempt"], task["result"], task["error"]) == (
        "Succeeded",
        2,
        {"tries": 2},
        None,
    )
    assert steps(task) == [
        ("Created", "submitted", "admin"),
        ("Processing", "claimed", "worker"),
        ("Scheduled", "dark-sky", "worker"),
        ("Processing", "claimed", "worker"),
        ("Succeeded", "finished", "worker"),
    ]
    assert at(task, "Processing") - at(task, "Scheduled") >= timedelta(seconds=1)
    assert dataset.log(task_id) == [
        "Attempt 1 of flaky.",
        "try 1",
        "The attempt failed: The sky was dark.",
        "Retrying in 1 s.",
        "Attempt 2 of flaky.",
        "try 2",
    ]
    assert waiting["logCursor"] == 4
    rest = dataset.client.get(f"{dataset.address}/tasks/{task_id}/log", params={"since": "4"}).json()
    assert rest == {"cursor": 6, "lines": ["Attempt 2 of flaky.", "try 2"], "truncatedFromTail": 0}


def test_a_persistent_failure_fails_the_task_after_the_last_attempt(world: World, tmp_path: Path) -> None:
    task = world.dataset().run("flaky", {"note": str(tmp_path / "note"), "fails": 99})
    assert (task["state"], task["attempt"]) == ("Failed", 2)
    assert task["error"] == {"code": "dark-sky", "message": "The sky was dark.", "retryable": True}


def test_a_failure_that_is_not_retryable_is_not_retried(world: World, tmp_path: Path) -> None:
    note = tmp_path / "note"
    task = world.dataset().run("flaky", {"note": str(note), "fails": 1, "retryable": False})
    assert (task["state"], task["attempt"], task["error"]["retryable"]) == ("Failed", 1, False)
    assert note.read_bytes() == b"."


def test_a_full_disk_is_retryable_but_not_retried_automatically(world: World) -> None:
    task = world.dataset().run("fill-disk")
    assert (task["state"], task["attempt"]) == ("Failed", 1)
    assert (task["error"]["code"], task["error"]["retryable"]) == ("disk-full", True)


@pytest.mark.parametrize(("max_attempts", "attempts"), [("1", 1), ("3", 3)])
def test_the_setting_limits_the_failed_attempts(
    make_stack: StackFactory, tmp_path: Path, max_attempts: str, attempts: int
) -> None:
    with make_stack(workers=1, max_attempts=max_attempts) as world:
        task = world.dataset().run("flaky", {"note": str(tmp_path / "note"), "fails": 99})
        assert (task["state"], task["attempt"]) == ("Failed", attempts)

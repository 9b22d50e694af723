"""Faults of tools, workers and services, and their effects on tasks."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conftest import StackFactory
from tests.support.world import Dataset, World, eventually


def running(until: Path) -> list[int]:
    """The processes that wait for the file `until`."""
    return [int(note.suffix[1:]) for note in until.parent.glob(f"{until.name}.running.*")]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def storage_of(world: World) -> Path:
    return Path(world.stack.environment["AEROTASK_STORAGE_URL"].removeprefix("file://"))


def stored_files(world: World) -> set[str]:
    return {file.name for file in (storage_of(world) / "blobs").rglob("*") if file.is_file()}


def worker_of(world: World, child: int) -> int:
    """The worker whose fork server started the child."""
    fork_server = psutil.Process(child).ppid()
    return psutil.Process(fork_server).ppid()


def test_a_killed_workers_task_is_picked_up_by_another_and_leaves_one_artifact(
    make_stack: StackFactory, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with make_stack(workers=2) as world:
        dataset = world.dataset()
        task_id = dataset.submit("patient", {"until": str(go), "publish": "once", "lines": 3})
        eventually(lambda: bool(running(go)))
        eventually(lambda: len(dataset.log(task_id)) == 4)
        [child] = running(go)

        os.kill(worker_of(world, child), signal.SIGKILL)

        eventually(lambda: len(running(go)) == 2, timeout_s=10)
        assert gone(child)
        go.touch()
        task = dataset.wait(task_id)
        assert (task["state"], task["attempt"]) == ("Succeeded", 2)
        assert [event["reason"] for event in task["history"] if event["by"] == "sweep"] == ["worker lost"]
        assert world.admin.get(task["artifact"]["resultUrl"]).content == b"once"
        assert len(stored_files(world)) == 1
        log = dataset.log(task_id)
        assert log.count("line 2") == 2
        assert log[4] == "Attempt 2 of patient."


def test_cancelling_a_running_task_leaves_nothing(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    before = stored_files(world)
    task_id = dataset.submit("patient", {"until": str(go), "publish": "x"})
    eventually(lambda: bool(running(go)))
    [child] = running(go)

    answer = world.admin.delete(f"{dataset.address}/tasks/{task_id}")

    assert (answer.status_code, answer.json()) == (200, {"taskId": task_id, "state": "Deleted"})
    eventually(lambda: gone(child), timeout_s=2)
    eventually(lambda: not list((storage_of(world) / "work").glob(f"{task_id}*")), timeout_s=5)
    go.touch()
    task = dataset.status(task_id)
    assert (task["state"], task["artifact"]) == ("Deleted", None)
    assert stored_files(world) == before


def test_cancel_kills_a_tool_that_ignores_signals_in_c(world: World) -> None:
    dataset = world.dataset()
    task_id = dataset.submit("deaf")
    eventually(lambda: any("deaf from now on" in line for line in dataset.log(task_id)))
    child = int(dataset.log(task_id)[-1].rpartition(" ")[2])

    world.admin.delete(f"{dataset.address}/tasks/{task_id}")

    eventually(lambda: gone(child), timeout_s=3)


def test_a_waiting_task_is_cancelled_before_it_begins(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    blockers = [dataset.submit("patient", {"until": str(go), "label": str(n)}) for n in range(4)]
    eventually(lambda: len(running(go)) == 4)
    waiting = dataset.submit("nothing")

    world.admin.delete(f"{dataset.address}/tasks/{waiting}")
    go.touch()

    for blocker in blockers:
        assert dataset.wait(blocker)["state"] == "Succeeded"
    task = dataset.status(waiting)
    assert (task["state"], task["attempt"], task["processingTimeMs"]) == ("Deleted", 0, -1)


@pytest.mark.parametrize(
    ("tool", "params", "code", "attempts", "words"),
    [
        ("segfault", {}, "tool-crashed", 2, "SIGSEGV"),
        ("eat-memory", {}, "out-of-memory", 1, "more memory than planned"),
        ("fill-disk", {}, "disk-full", 1, "storage is full"),
        ("confused", {"how": "outside"}, "bad-output", 1, "work folder"),
        ("confused", {"how": "link"}, "bad-output", 1, "work folder"),
        ("confused", {"how": "undeclared"}, "bad-output", 1, "elsewhere/file.txt"),
        ("confused", {"how": "input"}, "undeclared-input", 1, "not/planned.tif"),
        ("confused", {"how": "raise"}, "tool-error", 1, "unexpectedly (RuntimeError). The administrator"),
        ("confused", {"how": "fail"}, "bad-weather", 1, "The weather was bad."),
        ("confused", {"how": "exit"}, "tool-crashed", 2, "status 7"),
        ("confused", {"how": "interrupt"}, "tool-crashed", 2, "interrupted"),
        ("confused", {"how": "garbage"}, "tool-crashed", 2, "crashed"),
    ],
)
def test_a_failing_tool_fails_its_task_with_a_code(
    world: World, tool: str, params: dict[str, Any], code: str, attempts: int, words: str
) -> None:
    dataset = world.dataset()

    task = dataset.run(tool, params)

    assert (task["state"], task["error"]["code"], task["attempt"]) == ("Failed", code, attempts)
    assert words in task["error"]["message"]
    assert dataset.paths() == []
    assert dataset.run("nothing")["state"] == "Succeeded"


def test_a_crash_does_not_harm_other_tasks(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    neighbours = [dataset.submit("patient", {"until": str(go), "label": str(n)}) for n in range(2)]
    eventually(lambda: len(running(go)) == 2)

    assert dataset.run("segfault")["state"] == "Failed"

    go.touch()
    assert [dataset.wait(task_id)["attempt"] for task_id in neighbours] == [1, 1]
    assert all(worker.poll() is None for worker in world.stack.workers)


def test_control_characters_and_invalid_json_of_a_tool_are_cleaned(world: World) -> None:
    dataset = world.dataset()
    assert dataset.run("confused", {"how": "result"})["result"] == {"nul": "ab", "nan": None, "lone": "x"}
    escaped = dataset.submit("confused", {"how": "escape"})
    dataset.wait(escaped)
    assert dataset.log(escaped)[1:] == [" [31mred [0m   bell", "second"]


@pytest.mark.parametrize("wait", [True, False])
def test_processes_that_a_tool_started_end_with_it(world: World, tmp_path: Path, *, wait: bool) -> None:
    note = tmp_path / "pid"
    dataset = world.dataset()
    task_id = dataset.submit("parent", {"note": str(note), "wait": wait})
    eventually(lambda: note.exists() and note.read_text(encoding="ascii") != "")
    grandchild = int(note.read_text(encoding="ascii"))

    if wait:
        world.admin.delete(f"{dataset.address}/tasks/{task_id}")
    else:
        assert dataset.wait(task_id)["state"] == "Succeeded"

    eventually(lambda: gone(grandchild), timeout_s=5)


def test_a_child_sees_no_secret_and_little_else(world: World) -> None:
    seen = world.dataset().run("curious")["result"]

    assert not any(name.startswith("AEROTASK") for name in seen["environment"])
    if seen["user"] != 0:  # root can read everything
        assert seen["workerEnvironment"] == "PermissionError"
    assert seen["sessionLeader"] is True
    assert seen["cwd"] is True
    assert seen["coreBytes"] == 0
    assert seen["openFiles"] == 1024
    assert seen["modules"] == ["rasterio"]
    # Standard streams, its own socket, the folder that was listed, and PROJ's databases, one each of rasterio, pyogrio
    # and pyproj; no other child's, nor the control.
    assert len(seen["descriptors"]) <= 9


def test_changes_of_a_tool_are_applied_all_at_once(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("old.txt", b"old")

    task = dataset.run("writer", {"folder": "new", "count": 3, "remove": "old.txt"})

    assert task["state"] == "Succeeded"
    assert dataset.paths() == ["new", "new/0.txt", "new/1.txt", "new/2.txt"]
    assert [output["path"] for output in task["outputs"]] == ["new/0.txt", "new/1.txt", "new/2.txt"]
    assert world.admin.get(f"{dataset.address}/obj/new/1.txt").content == b"file 1\n"
    eventually(lambda: dataset.entry("new/1.txt")["indexed"])


def test_a_changing_tool_killed_halfway_changes_nothing(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    dataset.upload("new/0.txt", b"before")
    task_id = dataset.submit("writer", {"folder": "new", "count": 10, "until": str(go)})
    eventually(lambda: bool(running(go)))

    world.admin.delete(f"{dataset.address}/tasks/{task_id}")

    eventually(lambda: gone(running(go)[0]))
    assert dataset.paths() == ["new", "new/0.txt"]
    assert world.admin.get(f"{dataset.address}/obj/new/0.txt").content == b"before"


def test_a_change_that_conflicts_with_the_dataset_fails_the_task(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    task_id = dataset.submit("writer", {"folder": "new", "count": 2, "until": str(go)})
    eventually(lambda: bool(running(go)))
    before = stored_files(world)
    dataset.upload("new", b"a file where the folder would be", indexed=False)
    go.touch()

    task = dataset.wait(task_id)

    assert (task["state"], task["error"]["code"]) == ("Failed", "entry-is-file")
    assert dataset.paths() == ["new"]
    assert len(stored_files(world) - before) == 1


def test_revoked_permissions_fail_the_task_when_it_starts(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    member = world.member(dataset.org, "readOnly")
    blockers = [dataset.submit("patient", {"until": str(go), "label": str(n)}) for n in range(4)]
    eventually(lambda: len(running(go)) == 4)
    theirs = dataset.seen_by(member).submit("nothing")
    name = member.get("/users/me").json()["userName"]
    world.admin.delete(f"/orgs/{dataset.org}/members/{name}").raise_for_status()

    go.touch()

    task = dataset.wait(theirs)
    assert (task["state"], task["error"]["code"]) == ("Failed", "access-revoked")
    for blocker in blockers:
        dataset.wait(blocker)


def test_a_stopping_worker_hands_its_task_over(make_stack: StackFactory, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with make_stack(workers=2, shutdown_grace_s="0") as world:
        dataset = world.dataset()
        task_id = dataset.submit("patient", {"until": str(go)})
        eventually(lambda: bool(running(go)))
        [child] = running(go)
        worker = next(w for w in world.stack.workers if w.pid == worker_of(world, child))

        worker.send_signal(signal.SIGTERM)

        assert worker.wait(10) == 0
        eventually(lambda: len(running(go)) == 2, timeout_s=10)
        go.touch()
        task = dataset.wait(task_id)
        assert (task["state"], task["attempt"]) == ("Succeeded", 2)
        assert "worker stopping" in [event["reason"] for event in task["history"]]


def test_a_stopping_worker_lets_a_short_task_finish(make_stack: StackFactory, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with make_stack(workers=1, shutdown_grace_s="30") as world:
        dataset = world.dataset()
        task_id = dataset.submit("patient", {"until": str(go)})
        eventually(lambda: bool(running(go)))
        [worker] = world.stack.workers

        worker.send_signal(signal.SIGTERM)
        go.touch()

        assert worker.wait(20) == 0
        assert dataset.status(task_id)["state"] == "Succeeded"


def test_a_paused_worker_changes_nothing_when_it_wakes(make_stack: StackFactory, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with make_stack(workers=2, lease_ttl_s="2") as world:
        dataset = world.dataset()
        task_id = dataset.submit("patient", {"until": str(go), "publish": "x"})
        eventually(lambda: bool(running(go)))
        [first] = running(go)
        paused = worker_of(world, first)
        os.kill(paused, signal.SIGSTOP)
        try:
            eventually(lambda: len(running(go)) == 2)
            go.touch()
            task = dataset.wait(task_id)
        finally:
            os.kill(paused, signal.SIGCONT)

        assert (task["state"], task["attempt"]) == ("Succeeded", 2)
        eventually(lambda: not list((storage_of(world) / "work").glob(f"{task_id}*")))
        assert dataset.status(task_id) == task
        assert len(stored_files(world)) == 1


def test_an_outage_of_redis_delays_a_task_but_loses_none(make_stack: StackFactory) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    with make_stack(workers=1, redis_url=nowhere) as world:
        dataset: Dataset = world.dataset()
        assert dataset.run("nothing")["state"] == "Succeeded"
        ready = world.admin.get("/readyz")
        assert (ready.status_code, ready.json()["redis"]) == (503, "unreachable")


def test_a_task_that_runs_too_long_fails(make_stack: StackFactory, tmp_path: Path) -> None:
    with make_stack(workers=1, task_timeout_s="1") as world:
        task = world.dataset().run("patient", {"until": str(tmp_path / "never")})
        assert (task["state"], task["error"]["code"]) == ("Failed", "timed-out")

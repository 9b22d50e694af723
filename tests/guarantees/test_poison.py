"""Poisonous tasks, which kill their process or exhaust the machine, fail with a clear code and harm no other."""

from pathlib import Path

from tests.support.processes import await_attempt, kill, running, worker_of
from tests.support.world import World, eventually


def test_a_poisonous_task_harms_no_other(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    neighbour = dataset.submit("patient", {"until": str(go), "publish": "unharmed"})
    eventually(lambda: len(running(go)) == 1)
    before = [worker.pid for worker in world.stack.workers]

    poison = {tool: dataset.submit(tool) for tool in ("segfault", "eat-memory")}
    poison["abort"] = dataset.submit("confused", {"how": "exit"})
    ended = {name: dataset.wait(task) for name, task in poison.items()}

    assert {
        name: (task["state"], task["attempt"], task["error"]["code"]) for name, task in ended.items()
    } == {
        "segfault": ("Failed", 2, "tool-crashed"),
        "eat-memory": ("Failed", 1, "out-of-memory"),  # detected in the tool's own process
        "abort": ("Failed", 2, "tool-crashed"),
    }
    go.touch()
    task = dataset.wait(neighbour)
    assert (task["state"], task["attempt"]) == ("Succeeded", 1)
    assert [worker.pid for worker in world.stack.workers if worker.poll() is None] == before
    assert dataset.run("nothing")["state"] == "Succeeded"


def test_a_task_that_kills_its_worker_fails_after_two_workers(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    dataset = world.dataset()
    task_id = dataset.submit("patient", {"until": str(go)})
    for attempt in (1, 2):
        victim = worker_of(world, await_attempt(go, attempt))
        kill(victim)
        world.stack.workers.remove(victim)
        world.stack.start_worker()

    task = dataset.wait(task_id)

    assert (task["state"], task["attempt"], task["error"]["code"]) == ("Failed", 2, "worker-lost")
    assert task["error"]["retryable"] is True
    world.stack.await_workers()

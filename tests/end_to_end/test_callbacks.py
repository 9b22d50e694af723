"""Callbacks from a submit to their receiver, through real processes."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook
from tests.conftest import SECRET, StackFactory
from tests.support.databases import run_sql
from tests.support.receiver import Receiver, running_receiver
from tests.support.world import Dataset, World, eventually


@pytest.fixture(scope="module")
def calling(make_stack: StackFactory) -> Iterator[World]:
    """A stack that may call receivers on this machine."""
    with make_stack(workers=2, callback_allow_private="true") as made:
        yield made


def hook(receiver: Receiver, query: str = "") -> str:
    return f"http://127.0.0.1:{receiver.port}/hook{query}"


def callbacks(dataset: Dataset, task_id: str) -> list[dict[str, Any]]:
    answer = dataset.client.get(f"{dataset.address}/tasks/{task_id}/callbacks").raise_for_status()
    return list(answer.json())


def tried(dataset: Dataset, task_id: str, times: int = 1) -> dict[str, Any]:
    """The task's only message, after that many attempts."""
    eventually(lambda: [message["tries"] for message in callbacks(dataset, task_id)] == [times])
    return callbacks(dataset, task_id)[0]


def sql(world: World, statement: str) -> None:
    asyncio.run(run_sql(world.stack.environment["AEROTASK_DATABASE_URL"], statement))


def make_due(world: World, task_id: str) -> None:
    """Make the next attempt due now."""
    sql(world, f"UPDATE callbacks SET due_at = now() WHERE task_id = '{task_id}'")


def test_an_independent_verifier_accepts_the_status_that_a_receiver_gets(calling: World) -> None:
    dataset = calling.dataset()
    with running_receiver() as receiver:
        task = dataset.run("nothing", {"label": "Süd"}, callbackUrl=hook(receiver, "?key=1"))
        task_id = task["taskId"]
        eventually(lambda: dataset.status(task_id)["callbackCompleted"])

        [request] = receiver.received
        secret = calling.admin.get("/users/me/callback-secret").json()["secret"]
        verified = Webhook(secret).verify(request.body, request.headers)
        assert verified == {**dataset.status(task_id), "callbackCompleted": False}
        assert (verified["state"], verified["params"]["label"]) == ("Succeeded", "Süd")
        assert (request.path, request.headers["content-type"]) == ("/hook?key=1", "application/json")
        [message] = callbacks(dataset, task_id)
        assert message["id"] == request.headers["webhook-id"]
        assert (message["url"], message["state"], message["dueAt"]) == (
            hook(receiver, "?key=1"),
            "delivered",
            None,
        )
        [attempt] = message["attempts"]
        assert (attempt["status"], attempt["error"], message["tries"]) == (200 + 4, None, 1)
        assert attempt["durationMs"] >= 0
        assert attempt["at"].endswith("Z")


def test_failure_cancel_and_removal_send_callbacks_too(calling: World, tmp_path: Path) -> None:
    dataset = calling.dataset()
    with running_receiver() as receiver:
        failed = dataset.run("confused", {"how": "fail"}, callbackUrl=hook(receiver))["taskId"]
        running = dataset.submit("patient", {"until": str(tmp_path / "go")}, callbackUrl=hook(receiver))
        eventually(lambda: dataset.status(running)["progress"]["phase"] == "waiting")
        dataset.client.delete(f"{dataset.address}/tasks/{running}").raise_for_status()
        eventually(lambda: len(receiver.received) == 2)
        dataset.client.delete(f"{dataset.address}/tasks/{failed}").raise_for_status()
        eventually(lambda: len(receiver.received) == 3)

        payloads = [json.loads(request.body) for request in receiver.received]
        assert {(task["taskId"], task["state"]) for task in payloads} == {
            (failed, "Failed"),
            (running, "Deleted"),
            (failed, "Deleted"),
        }
        assert len(callbacks(dataset, failed)) == 2


def test_a_failing_receiver_is_retried_with_the_same_id(calling: World) -> None:
    dataset = calling.dataset()
    with running_receiver(500, 503, 200) as receiver:
        task_id = dataset.run("nothing", callbackUrl=hook(receiver))["taskId"]
        first = tried(dataset, task_id)
        assert (first["state"], first["attempts"][0]["error"]) == ("waiting", "The receiver answered 500.")
        assert first["dueAt"] > first["attempts"][0]["at"]
        assert dataset.status(task_id)["callbackCompleted"] is False

        make_due(calling, task_id)
        tried(dataset, task_id, 2)
        make_due(calling, task_id)
        last = tried(dataset, task_id, 3)

        assert last["state"] == "delivered"
        assert [attempt["status"] for attempt in last["attempts"]] == [500, 503, 200]
        assert len({request.headers["webhook-id"] for request in receiver.received}) == 1
        assert len({request.body for request in receiver.received}) == 1
        assert dataset.status(task_id)["callbackCompleted"] is True


def test_a_callback_is_given_up_after_eight_attempts(calling: World) -> None:
    dataset = calling.dataset()
    with running_receiver(500) as receiver:
        task_id = dataset.run("nothing", callbackUrl=hook(receiver))["taskId"]
        for times in range(1, 9):
            tried(dataset, task_id, times)
            make_due(calling, task_id)
        message = tried(dataset, task_id, 8)
        assert (message["state"], message["dueAt"], len(receiver.received)) == ("given-up", None, 8)


def test_410_ends_the_callbacks_of_the_task(calling: World) -> None:
    dataset = calling.dataset()
    with running_receiver(410) as receiver:
        task_id = dataset.run("nothing", callbackUrl=hook(receiver))["taskId"]
        message = tried(dataset, task_id)
        assert (message["state"], message["dueAt"]) == ("refused", None)
        dataset.client.delete(f"{dataset.address}/tasks/{task_id}").raise_for_status()
        assert len(callbacks(dataset, task_id)) == 1


def test_a_redirect_counts_as_a_failure_and_is_not_followed(calling: World) -> None:
    dataset = calling.dataset()
    with running_receiver() as target, running_receiver(302, location=hook(target)) as receiver:
        task_id = dataset.run("nothing", callbackUrl=hook(receiver))["taskId"]
        message = tried(dataset, task_id)
        assert message["state"] == "waiting"
        assert message["attempts"][0]["error"] == "The receiver answered 302. Redirects are not followed."
        assert target.received == []


def test_a_hanging_receiver_times_out_and_is_retried(make_stack: StackFactory) -> None:
    with (
        make_stack(callback_allow_private="true", callback_timeout_s="0.5") as world,
        running_receiver() as receiver,
    ):
        receiver.hanging.set()
        dataset = world.dataset()
        task_id = dataset.run("nothing", callbackUrl=hook(receiver))["taskId"]
        message = tried(dataset, task_id)
        assert message["attempts"][0]["error"] == "There was no answer within 0.5 s."
        assert 500 <= message["attempts"][0]["durationMs"] < 10_000
        assert message["state"] == "waiting"


def test_killing_all_workers_loses_no_message(make_stack: StackFactory) -> None:
    with make_stack(workers=2, callback_allow_private="true") as world, running_receiver() as receiver:
        receiver.hanging.set()
        dataset = world.dataset()
        tasks = [
            dataset.run("nothing", {"label": str(number)}, callbackUrl=hook(receiver))["taskId"]
            for number in range(3)
        ]
        eventually(lambda: len(receiver.received) == 3)
        for worker in world.stack.workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        assert [callbacks(dataset, task_id)[0]["tries"] for task_id in tasks] == [0, 0, 0]
        receiver.hanging.clear()

        world.stack.workers.clear()
        world.stack.start_worker()
        sql(world, "UPDATE callbacks SET due_at = now()")  # as when the dead workers' time has run out

        for task_id in tasks:
            assert tried(dataset, task_id)["state"] == "delivered"
        assert len({request.headers["webhook-id"] for request in receiver.received}) == 3


def test_a_name_that_resolves_to_a_private_address_is_rejected_at_connect(
    world: World, tmp_path: Path
) -> None:
    """The URL is valid at submit, but its name resolves to this machine later."""
    go = tmp_path / "go"
    dataset = world.dataset()
    with running_receiver() as receiver:
        task_id = dataset.submit("patient", {"until": str(go)}, callbackUrl="https://hooks.example.com/")
        sql(world, f"UPDATE tasks SET callback_url = '{hook(receiver)}' WHERE id = '{task_id}'")
        go.touch()
        message = tried(dataset, task_id)
        assert message["attempts"][0]["error"] == (
            "The host leads to an address that is private, local or reserved."
        )
        assert (message["attempts"][0]["status"], receiver.received) == (None, [])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://[::ffff:169.254.169.254]/",
        "http://localhost:8000/",
        "https://user:password@example.com/",
        "ftp://example.com/",
        "http://example.com/#fragment",
        "http://example.com\\@127.0.0.1/",
        f"http://example.com/{'x' * 2048}",
        "",
    ],
)
def test_an_invalid_callback_url_is_rejected_at_submit(world: World, url: str) -> None:
    answer = world.dataset().try_submit("nothing", callbackUrl=url)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-callback-url")


@pytest.mark.parametrize("value", [5, ["http://example.com/"], {"url": "http://example.com/"}])
def test_a_callback_url_that_is_no_string_is_rejected(world: World, value: object) -> None:
    answer = world.dataset().try_submit("nothing", callbackUrl=value)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


def test_anonymous_callers_cannot_use_callbacks(world: World) -> None:
    dataset = world.dataset(visibility="public").seen_by(world.client())
    answer = dataset.try_submit("nothing", callbackUrl="https://example.com/")
    assert (answer.status_code, answer.json()["code"]) == (400, "callback-needs-user")


def test_callbacks_are_shown_to_the_tasks_owner_and_administrators(calling: World) -> None:
    org = calling.org()
    owner, admin, reader = (calling.member(org, role) for role in ("readOnly", "admin", "readOnly"))
    dataset = calling.dataset(org=org)
    with running_receiver() as receiver:
        task_id = dataset.seen_by(owner).run("nothing", callbackUrl=hook(receiver))["taskId"]
        address = f"{dataset.address}/tasks/{task_id}/callbacks"

        def seen(client: httpx.Client) -> int:
            return client.get(address).status_code

        assert [seen(client) for client in (owner, admin, calling.admin)] == [200, 200, 200]
        assert seen(reader) == 403
        assert seen(calling.client(calling.user())) == 404
        assert seen(calling.client()) == 401
        absent = f"{dataset.address}/tasks/01a20276-4687-70c9-8a52-caac30ad7db1/callbacks"
        assert owner.get(absent).status_code == 404
        assert owner.get(f"{dataset.address}/tasks/x/callbacks").status_code == 400


def test_a_secret_is_shown_only_to_its_user(world: World) -> None:
    mine, theirs = (world.client(world.user()) for _ in range(2))
    answer = mine.get("/users/me/callback-secret")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["secret"].startswith("whsec_")
    assert answer.json() == mine.get("/users/me/callback-secret").json()
    assert answer.json() != theirs.get("/users/me/callback-secret").json()
    assert world.client().get("/users/me/callback-secret").status_code == 401


def test_no_secret_query_or_key_is_logged(make_stack: StackFactory) -> None:
    with make_stack(callback_allow_private="true") as world, running_receiver(500) as receiver:
        dataset = world.dataset()
        url = hook(receiver, "?token=hush-hush")
        task_id = dataset.run("nothing", callbackUrl=url)["taskId"]
        message = tried(dataset, task_id)
        secret = world.admin.get("/users/me/callback-secret").json()["secret"]
        assert world.stack.log is not None
        log = Path(str(world.stack.log.name)).read_text(encoding="utf-8")
        assert message["id"] in log
        assert [text for text in ("hush-hush", secret, secret[6:], SECRET) if text in log] == []

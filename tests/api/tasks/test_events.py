"""Event streams and plain-text logs of tasks over HTTP, with running workers."""

import itertools
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.conftest import StackFactory
from tests.support.sse import KEEPALIVE, Event, events_of, lines_of
from tests.support.world import ENDED, Dataset, World, eventually

ABSENT = "01a20276-4687-70c9-8a52-caac30ad7db1"
LINES = ["Attempt 1 of patient.", *(f"line {n}" for n in range(30))]


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


@contextmanager
def streaming(
    dataset: Dataset, task_id: str, *, after: str | None = None, query: str = ""
) -> Iterator[httpx.Response]:
    """An open event stream."""
    headers = {} if after is None else {"Last-Event-ID": after}
    address = f"{dataset.address}/tasks/{task_id}/events{query}"
    with dataset.client.stream("GET", address, headers=headers) as response:
        yield response


def events(dataset: Dataset, task_id: str, *, after: str | None = None, query: str = "") -> list[Event]:
    """All events up to the end of the stream, without keep-alives."""
    with streaming(dataset, task_id, after=after, query=query) as response:
        return [event for event in events_of(response) if event.name != KEEPALIVE]


def test_the_stream_of_an_ended_task_is_complete_and_ends_with_its_status(dataset: Dataset) -> None:
    status = dataset.run("patient", {"lines": 30})

    received = events(dataset, status["taskId"])

    assert [event.name for event in received] == ["state", *["log"] * 31, "progress", "end"]
    assert received[0].data == {
        "state": "Succeeded",
        "waitingFor": None,
        "attempt": 1,
        "at": received[0].data["at"],
        "reason": "finished",
    }
    assert lines_of(received) == LINES
    logged = [event for event in received if event.name == "log"]
    assert [event.id for event in logged] == [str(cursor) for cursor in range(1, 32)]
    assert [event.data["cursor"] for event in logged] == list(range(1, 32))
    assert received[-2].data == {"percent": 100.0, "phase": None, "message": "line 29"}
    assert received[-1].data == status


def test_a_stream_has_the_headers_of_an_event_stream(dataset: Dataset) -> None:
    task_id = dataset.run("nothing")["taskId"]
    with streaming(dataset, task_id) as response:
        response.read()
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers


def test_a_stream_follows_a_task_from_its_submission_to_its_end(dataset: Dataset, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task_id = dataset.submit("patient", {"until": str(go), "lines": 30})
    received: list[Event] = []
    with streaming(dataset, task_id) as response:
        for event in events_of(response):
            received.append(event)
            if event.name == "progress" and event.data["phase"] == "waiting":
                go.touch()

    states = [event.data["state"] for event in received if event.name == "state"]
    assert states[-2:] == ["Processing", "Succeeded"]
    assert {event.data["percent"] for event in received if event.name == "progress"} >= {50.0, 100.0}
    assert lines_of(received) == LINES
    assert received[-1].name == "end"
    assert received[-1].data == dataset.status(task_id)


def test_streams_and_pollers_get_every_line_once_while_a_task_writes(world: World, dataset: Dataset) -> None:
    task_id = dataset.submit("patient", {"lines": 400, "lineEveryS": 0.004})
    written = ["Attempt 1 of patient.", *(f"line {n}" for n in range(400))]

    def stream(_: int) -> list[str]:
        return lines_of(events(dataset.seen_by(world.client("admin")), task_id))

    def poll(_: int) -> list[str]:
        mine = dataset.seen_by(world.client("admin"))
        address = f"{dataset.address}/tasks/{task_id}/log"
        read: list[str] = []
        while True:
            ended = mine.status(task_id)["state"] in ENDED
            page = mine.client.get(address, params={"since": len(read)}).raise_for_status().json()
            read += page["lines"]
            if ended and not page["lines"]:
                return read

    with ThreadPoolExecutor(6) as threads:
        heard = [*threads.map(stream, range(4)), *threads.map(poll, range(2))]

    assert heard == [written] * 6


def test_a_client_that_keeps_reconnecting_gets_every_line_once(dataset: Dataset) -> None:
    task_id = dataset.submit("patient", {"lines": 200, "lineEveryS": 0.005})
    heard: list[str] = []
    after: str | None = None
    for _ in itertools.count():
        with streaming(dataset, task_id, after=after) as response:
            for event in itertools.islice(events_of(response), 40):
                if event.name == "log":
                    heard.append(event.data["line"])
                    after = event.id
                if event.name == "end":
                    assert heard == ["Attempt 1 of patient.", *(f"line {n}" for n in range(200))]
                    return


@pytest.mark.parametrize("cursor", [0, 1, 17, 30, 31])
def test_a_stream_resumes_at_the_last_event(dataset: Dataset, cursor: int) -> None:
    task_id = dataset.run("patient", {"lines": 30})["taskId"]
    whole = events(dataset, task_id)

    rest = events(dataset, task_id, after=str(cursor))

    assert lines_of(rest) == LINES[cursor:]
    assert [event for event in rest if event.name != "log"] == [
        event for event in whole if event.name != "log"
    ]
    assert events(dataset, task_id, query=f"?since={cursor}") == rest
    # Browsers repeat the original URL; the header has the last cursor.
    assert events(dataset, task_id, after=str(cursor), query="?since=0") == rest


def test_a_cursor_beyond_the_end_counts_as_the_end(dataset: Dataset) -> None:
    longer = dataset.run("patient", {"lines": 30})
    shorter = dataset.run("nothing")
    for after in (str(longer["logCursor"]), str(2**62)):
        received = events(dataset, shorter["taskId"], after=after)
        assert [event.name for event in received] == ["state", "progress", "end"]
        assert received[-1].data == shorter


@pytest.mark.parametrize("cursor", ["-1", "x", "1.5", "", "NaN", "99999999999999999999", "1,2", "%00"])
def test_an_invalid_cursor_is_refused(dataset: Dataset, cursor: str) -> None:
    address = f"{dataset.address}/tasks/{ABSENT}/events"
    by_header = dataset.client.get(address, headers={"Last-Event-ID": cursor})
    by_query = dataset.client.get(f"{address}?since={cursor}")
    for answer in (by_header, by_query):
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


@pytest.mark.parametrize("what", ["events", "output"])
def test_hidden_or_missing_tasks_are_refused_before_a_stream_starts(
    world: World, dataset: Dataset, what: str
) -> None:
    task_id = dataset.run("nothing")["taskId"]
    address = f"{dataset.address}/tasks/{task_id}/{what}"
    stranger = world.client(world.user())
    assert world.client().get(address).status_code == 401
    assert stranger.get(address).status_code == 404
    absent = world.admin.get(f"{dataset.address}/tasks/{ABSENT}/{what}")
    assert (absent.status_code, absent.json()["code"]) == (404, "no-such-task")
    assert world.admin.get(f"{dataset.address}/tasks/x/{what}").status_code == 400


def test_an_idle_stream_sends_keep_alives_until_permissions_are_lost(
    make_stack: StackFactory, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with make_stack(workers=1, events_keepalive_s="0.1") as world:
        dataset = world.dataset()
        member = world.member(dataset.org, "readOnly")
        name = member.get("/users/me").json()["userName"]
        task_id = dataset.submit("patient", {"until": str(go)})
        eventually(lambda: dataset.status(task_id)["progress"]["phase"] == "waiting")

        received: list[str] = []
        with streaming(dataset.seen_by(member), task_id) as response:
            for event in events_of(response):
                received.append(event.name)
                if received[-3:] == [KEEPALIVE] * 3:
                    world.admin.delete(f"/orgs/{dataset.org}/members/{name}")

        assert received[:3] == ["state", "log", "progress"]
        assert set(received[3:]) == {KEEPALIVE}
        assert dataset.status(task_id)["state"] == "Processing"
        go.touch()
        dataset.wait(task_id)


def test_dropped_lines_are_counted(make_stack: StackFactory) -> None:
    with make_stack(workers=1, log_max_lines="100") as world:
        dataset = world.dataset()
        task_id = dataset.run("patient", {"lines": 250})["taskId"]

        received = events(dataset, task_id, after="10")

        assert [event.name for event in received] == ["state", "truncated", *["log"] * 100, "progress", "end"]
        assert (received[1].data, received[1].id) == ({"cursor": 151, "lines": 141}, "151")
        assert lines_of(received) == [f"line {n}" for n in range(150, 250)]
        assert received[2].id == "152"
        assert events(dataset, task_id, after="151") == [received[0], *received[2:]]
        output = dataset.client.get(f"{dataset.address}/tasks/{task_id}/output").text
        assert output.splitlines() == lines_of(received)


def test_a_stopping_api_ends_streams_and_long_polls_at_once_and_clients_resume(
    make_stack: StackFactory, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with make_stack(workers=1) as world, ThreadPoolExecutor(1) as threads:
        dataset = world.dataset()
        task_id = dataset.submit("patient", {"until": str(go), "lines": 30})
        eventually(lambda: dataset.status(task_id)["progress"]["phase"] == "waiting")
        waiting = threads.submit(
            world.client("admin").get, f"{dataset.address}/tasks/{task_id}", params={"wait": 30}
        )
        with streaming(dataset, task_id) as response:
            stream = events_of(response)
            received = list(itertools.islice(stream, 33))
            assert world.stack.api is not None

            world.stack.api.send_signal(signal.SIGTERM)

            # The stream closes properly: neither aborted nor with a false `end`.
            assert list(stream) == []
        world.stack.api.wait(30)
        assert waiting.result().json()["state"] == "Processing"
        world.stack.start_api()
        world.stack.await_api()
        go.touch()
        rest = events(dataset, task_id, after=received[-2].id)
        assert lines_of(received) + lines_of(rest) == LINES
        assert rest[-1].data == dataset.status(task_id)


@pytest.mark.parametrize("line", [0, 1, 30, 31, 32, 2**62])
def test_the_log_is_plain_text_from_any_line(dataset: Dataset, line: int) -> None:
    task_id = dataset.run("patient", {"lines": 30})["taskId"]
    answer = dataset.client.get(f"{dataset.address}/tasks/{task_id}/output", params={"line": line})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "".join(f"{text}\n" for text in LINES[line:])


def test_a_log_of_many_pages_is_complete(dataset: Dataset) -> None:
    task_id = dataset.run("patient", {"lines": 1700})["taskId"]
    address = f"{dataset.address}/tasks/{task_id}"
    written = ["Attempt 1 of patient.", *(f"line {n}" for n in range(1700))]
    assert dataset.client.get(f"{address}/output").text == "\n".join([*written, ""])
    assert lines_of(events(dataset, task_id)) == written


@pytest.mark.parametrize("line", ["-1", "x", "1.5", "", "NaN", "99999999999999999999"])
def test_an_invalid_line_number_is_refused(dataset: Dataset, line: str) -> None:
    answer = dataset.client.get(f"{dataset.address}/tasks/{ABSENT}/output?line={line}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


@pytest.mark.parametrize(("take", "count"), [("0", 1), ("1000000000", 31)])
def test_the_number_of_lines_is_clamped(dataset: Dataset, take: str, count: int) -> None:
    task_id = dataset.run("patient", {"lines": 30})["taskId"]
    page = dataset.client.get(f"{dataset.address}/tasks/{task_id}/log", params={"take": take}).json()
    assert len(page["lines"]) == count

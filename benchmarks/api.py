"""The API: submits, status reads, and the way from submit to Succeeded, beside the least that each can be.

    python benchmarks/api.py

One run, one Postgres and one Valkey (durable, on disk), every process on the same cores as the load. The bare endpoint is
FastAPI and asyncpg with one statement and neither accounts nor locks nor history; bare arq runs a job in the worker's own
process, without a database and without a child.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx

from aerotask.local.waiting import await_condition
from aerotask.stack import Stack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.load import Load, put_under_load, request
from benchmarks.stacks import PEERS, TASKS, bench, percentile, sign_in

CONNECTIONS, SECONDS, ROUNDS = 32, 5.0, 50
JSON = {"Content-Type": "application/json"}


def main() -> None:
    with bench() as made:
        with bare_api(made.postgres_url) as bare:
            compare_bare(bare)
        with made.stack(workers=0) as ours:
            measure_ours(ours)
        with made.stack(workers=1) as ours:
            show_latency("submit → Succeeded, a task that does nothing", latencies(ours))
        show_arq(made.redis_url)


@contextmanager
def bare_api(database_url: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(PEERS / "bare_api.py"), str(port)]
    process = subprocess.Popen(command, env={**os.environ, "BARE_DATABASE_URL": database_url})
    try:
        await_condition(lambda: answers(port), timeout_s=30)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/openapi.json")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


BARE: dict[str, Load] = {}


def compare_bare(address: str) -> None:
    bodies = (
        json.dumps({"toolId": "nothing", "params": {"label": str(n)}}).encode() for n in itertools.count()
    )
    posts = (request("POST", "/tasks", JSON, body) for body in bodies)
    BARE["submits"] = put_under_load(address, posts, connections=CONNECTIONS, seconds=SECONDS)
    task = httpx.post(f"{address}/tasks", json={"toolId": "nothing", "params": {}}, trust_env=False).json()[
        "taskId"
    ]
    reads = itertools.repeat(request("GET", f"/tasks/{task}", {}))
    BARE["reads"] = put_under_load(address, reads, connections=CONNECTIONS, seconds=SECONDS)
    print(f"bare submits    {BARE['submits']}")
    print(f"bare reads      {BARE['reads']}")


def measure_ours(stack: Stack) -> None:
    with sign_in(stack.address) as client:
        headers = {**JSON, "Authorization": client.headers["Authorization"]}
        bodies = (
            json.dumps({"toolId": "nothing", "params": {"label": f"s{n}"}}).encode()
            for n in itertools.count()
        )
        posts = (request("POST", TASKS, headers, body) for body in bodies)
        submits = put_under_load(stack.address, posts, connections=CONNECTIONS, seconds=SECONDS)
        task = client.post(TASKS, json={"toolId": "nothing", "params": {"label": "read"}}).json()["taskId"]
        reads = itertools.repeat(request("GET", f"{TASKS}/{task}", headers))
        status = put_under_load(stack.address, reads, connections=CONNECTIONS, seconds=SECONDS)
        client.request("POST", f"{TASKS}/clear")
    print(f"our submits     {submits}   {submits.per_s / BARE['submits'].per_s:.2f} of bare")
    print(f"our reads       {status}   {status.per_s / BARE['reads'].per_s:.2f} of bare")


def latencies(stack: Stack) -> list[float]:
    """Seconds from sending a submit to seeing Succeeded, one task after the other on an idle stack."""
    with sign_in(stack.address) as client:
        await_condition(lambda: idle(client), timeout_s=600)
        return [one_task(client, number) for number in range(ROUNDS)]


def idle(client: httpx.Client) -> bool:
    states = ("Created", "Enqueued", "Processing")
    counts = [
        client.get("/sys/tasks", params={"state": state, "take": 1}).json()["total"] for state in states
    ]
    return not any(counts)


def one_task(client: httpx.Client, number: int) -> float:
    started = time.perf_counter()
    body: dict[str, Any] = {"toolId": "nothing", "params": {"label": f"l{number}"}, "force": True}
    status_url = client.post(TASKS, json=body).raise_for_status().json()["statusUrl"]
    while client.get(status_url).json()["state"] != "Succeeded":
        time.sleep(0.002)
    return time.perf_counter() - started


def show_latency(name: str, took: list[float]) -> None:
    middle, high, longest = percentile(took, 0.5), percentile(took, 0.9), max(took)
    print(
        f"{name}: p50 {middle * 1000:.0f} ms, p90 {high * 1000:.0f} ms, "
        f"longest {longest * 1000:.0f} ms, of {len(took)}"
    )


def show_arq(redis_url: str) -> None:
    command = [sys.executable, str(PEERS / "bare_arq.py"), redis_url, str(ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    show_latency("bare arq, enqueue → result", measured["took"])
    print(f"bare arq drains {measured['drained_per_s']:.0f} jobs/s that were enqueued before")


if __name__ == "__main__":
    main()

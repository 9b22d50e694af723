"""API benchmark: submits, status reads, and the time from submit to Succeeded, compared with minimal peers.

    python benchmarks/api.py

All candidates run with one Postgres and one Valkey (durable, on disk), on the same cores as the load. The bare endpoint is
FastAPI and asyncpg with one statement and without accounts, locks or history; bare arq runs a job in the worker's own
process, without a database or a child process.
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

from aerotask.stack.stack import Stack
from aerotask.stack.waiting import await_condition

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.load import Load, put_under_load, request
from benchmarks.stacks import PEERS, TASKS, bench, percentile, sign_in

CONNECTIONS, SECONDS, TURNS, ROUNDS = 32, 1.5, 7, 50
JSON = {"Content-Type": "application/json"}


def main() -> None:
    with bench() as made:
        with bare_api(made.postgres_url) as bare, made.stack(workers=0) as ours:
            compare(bare, ours)
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


def compare(bare: str, ours: Stack) -> None:
    """Runs both in alternating turns of seconds, as a busy machine changes by the minute; prints medians."""
    with sign_in(ours.address) as client:
        headers = {**JSON, "Authorization": client.headers["Authorization"]}
        task = client.post(TASKS, json={"toolId": "nothing", "params": {"label": "read"}}).json()["taskId"]
        bare_task = httpx.post(f"{bare}/tasks", json={"params": {}}, trust_env=False).json()["taskId"]
        loads = {
            "submits": (submits("/tasks", JSON), submits(TASKS, headers)),
            "reads": (
                itertools.repeat(request("GET", f"/tasks/{bare_task}", {})),
                itertools.repeat(request("GET", f"{TASKS}/{task}", headers)),
            ),
        }
        for name, (to_bare, to_ours) in loads.items():
            pairs = [(put(bare, to_bare), put(ours.address, to_ours)) for _ in range(TURNS)]
            ratio = percentile([mine.per_s / least.per_s for least, mine in pairs], 0.5)
            least, mine = (
                sorted(side, key=lambda load: load.per_s)[TURNS // 2] for side in zip(*pairs, strict=True)
            )
            print(f"bare {name:8s} {least}")
            print(f"our {name:9s} {mine}   {ratio:.2f} of bare (median of {TURNS} pairs)")
        client.request("POST", f"{TASKS}/clear")


def submits(path: str, headers: dict[str, str]) -> Iterator[bytes]:
    for n in itertools.count():
        body = json.dumps({"toolId": "nothing", "params": {"label": str(n)}}).encode()
        yield request("POST", path, headers, body)


def put(address: str, requests: Iterator[bytes]) -> Load:
    return put_under_load(address, requests, connections=CONNECTIONS, seconds=SECONDS)


def latencies(stack: Stack) -> list[float]:
    """Seconds from sending a submit to reading Succeeded, one task after the other on an idle stack."""
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
    print(f"bare arq drains {measured['drained_per_s']:.0f} jobs/s that were enqueued beforehand")


if __name__ == "__main__":
    main()

"""Task queue benchmark: recovery, cancel, start, drain, and status reads during running exports.

    python benchmarks/substrate.py              # every part
    python benchmarks/substrate.py recovery     # one: recovery, cancel, start, drain, reads

All candidates run with one Postgres and one Valkey, durable and on disk, with default settings except quotas. In `drain`
each peer runs 1,000 empty jobs, enqueued before its worker starts, four at once, at its default durability:
Aerotask commits each change of state to Postgres and starts a process per task; procrastinate commits to the same Postgres
and runs jobs in its own process; Celery and arq keep jobs in the same Valkey (appendfsync everysec) and acknowledge them
before they run (Celery) or after (arq).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from aerotask.demo_data.orthophoto import write_orthophoto
from aerotask.stack.waiting import await_condition

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.load import put_under_load, request
from benchmarks.stacks import PEERS, TASKS, Bench, bench, environment_with, percentile, sign_in

KILLS, CANCELS, STARTS, JOBS, SLOTS = 50, 30, 200, 1_000, 4
ROWS, ORTHOPHOTO_PX = 100_000, 8_000
TIMEOUT_S = 120


def main() -> None:
    parts: dict[str, Callable[[Bench], None]] = {
        "recovery": recovery,
        "cancel": cancel,
        "start": start,
        "drain": drain,
        "reads": reads,
    }
    wanted = sys.argv[1:] or list(parts)
    with bench() as made:
        for name in wanted:
            parts[name](made)


def show(name: str, values: list[float], goal: str) -> None:
    p50, p95, p99 = (1000 * percentile(values, share) for share in (0.5, 0.95, 0.99))
    print(
        f"{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, max {1000 * max(values):.0f} ms, "
        f"of {len(values)}   (goal: {goal})",
        flush=True,
    )


def until(condition: Callable[[], bool]) -> None:
    if not await_condition(condition, timeout_s=TIMEOUT_S):
        raise TimeoutError(f"not so after {TIMEOUT_S} s")


def submit(client: httpx.Client, tool: str, **params: str) -> str:
    body = {"toolId": tool, "params": params, "force": True}
    return str(client.post(TASKS, json=body).raise_for_status().json()["taskId"])


def until_succeeded(client: httpx.Client, task: str) -> dict[str, Any]:
    until(lambda: status(client, task)["state"] == "Succeeded")
    return status(client, task)


def status(client: httpx.Client, task: str) -> dict[str, Any]:
    return dict(client.get(f"{TASKS}/{task}").raise_for_status().json())


def running(go: Path) -> list[int]:
    return [int(note.suffix[1:]) for note in go.parent.glob(f"{go.name}.running.*")]


def until_running(go: Path, count: int = 1) -> int:
    """Waits until that many attempts have begun; returns the process of one."""
    until(lambda: len(running(go)) == count)
    return running(go)[0]


def recovery(made: Bench) -> None:
    """Seconds from the SIGKILL of a worker until its task runs again in another."""
    took = []
    with made.stack(workers=2) as stack, sign_in(stack.address) as client:
        for number in range(KILLS):
            go = made.folder / f"go-{number}"
            task = submit(client, "patient", until=str(go))
            child = until_running(go)
            holder = psutil.Process(psutil.Process(child).ppid()).ppid()
            os.kill(holder, signal.SIGKILL)
            killed = time.perf_counter()
            until_running(go, 2)
            took.append(time.perf_counter() - killed)
            go.touch()
            until_succeeded(client, task)
            stack.workers[:] = [worker for worker in stack.workers if worker.poll() is None]
            stack.start_worker()
            stack.await_workers()
    show("recovery after SIGKILL of a worker", took, "max ≤ 3 s")


def cancel(made: Bench) -> None:
    """Seconds from DELETE until the child is gone, for a cooperative tool and for one blocked in C code."""
    with made.stack(workers=1) as stack, sign_in(stack.address) as client:
        polite = []
        for number in range(CANCELS):
            go = made.folder / f"cancel-{number}"
            task = submit(client, "patient", until=str(go))
            polite.append(cancelled_after(client, task, until_running(go)))
        deaf = [cancelled_after(client, *deaf_task(client)) for _ in range(5)]
    show("cancel of a waiting tool, until its process is gone", polite, "≤ 2 s")
    show("cancel of a tool deaf in C, until its process is gone", deaf, "≤ 2 s")


def deaf_task(client: httpx.Client) -> tuple[str, int]:
    task = submit(client, "deaf")
    until(lambda: "deaf from now on" in "".join(status(client, task)["logTail"]))
    return task, int(status(client, task)["logTail"][-1].rpartition(" ")[2])


def cancelled_after(client: httpx.Client, task: str, child: int) -> float:
    asked = time.perf_counter()
    client.delete(f"{TASKS}/{task}").raise_for_status()
    until(lambda: not psutil.pid_exists(child))
    return time.perf_counter() - asked


def start(made: Bench) -> None:
    """Seconds from the commit of a submit to the claim, one task after the other on an idle stack."""
    took = []
    with made.stack(workers=1) as stack, sign_in(stack.address) as client:
        for _ in range(STARTS):
            ended = until_succeeded(client, submit(client, "nothing"))
            took.append(_between(ended, "createdAt", "startedAt"))
    show("submit → start, idle", took, "p50 ≤ 50 ms, p99 ≤ 250 ms")


def _between(task: Mapping[str, Any], first: str, last: str) -> float:
    begin, end = (datetime.fromisoformat(str(task[name])) for name in (first, last))
    return (end - begin).total_seconds()


def drain(made: Bench) -> None:
    """Tasks per second, from the first start to the last end."""
    ours = _drain_ours(made)
    print(f"drain: aerotask, a process per task       {ours:7.0f}/s", flush=True)
    figures = {"bare arq": _drain_arq(made)}
    celery = environment_with(made.folder, "celery[redis]")
    if celery:
        broker = made.redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
        figures["Celery, 4 processes"] = _drain_peer(made, celery, "celery_drain", BENCH_BROKER=broker)
    procrastinate = environment_with(made.folder, "procrastinate", "psycopg[binary]")
    if procrastinate:
        database = asyncio.run(_database(made.postgres_url))
        figures["procrastinate"] = _drain_peer(
            made, procrastinate, "procrastinate_drain", BENCH_DATABASE=database
        )
    for name, per_s in figures.items():
        print(f"drain: {name:34s} {per_s:7.0f}/s   ours is {ours / per_s:.2f} of it", flush=True)


def _drain_ours(made: Bench) -> float:
    with made.stack(workers=0) as stack, sign_in(stack.address) as client:
        for _ in range(JOBS):
            submit(client, "nothing")
        for _ in range(2):
            stack.start_worker()
        until(lambda: waiting(client) == 0)
        listed: list[dict[str, Any]] = []
        for skip in range(0, JOBS, 200):
            listed += client.get(TASKS, params={"skip": skip, "take": 200}).json()
    begin = min(datetime.fromisoformat(str(task["startedAt"])) for task in listed)
    end = max(datetime.fromisoformat(str(task["finishedAt"])) for task in listed)
    return JOBS / (end - begin).total_seconds()


def waiting(client: httpx.Client) -> int:
    states = ("Created", "Enqueued", "Scheduled", "Processing")
    pages = [client.get("/sys/tasks", params={"state": state, "take": 1}) for state in states]
    return sum(page.json()["total"] for page in pages)


def _drain_arq(made: Bench) -> float:
    command = [sys.executable, str(PEERS / "bare_arq.py"), made.redis_url, "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.partition('"drained_per_s": ')[2].rstrip("}\n"))


def _drain_peer(made: Bench, python: Path, program: str, **environment: str) -> float:
    note = made.folder / f"{program}.times"
    command = [str(python), str(PEERS / f"{program}.py"), str(JOBS), str(SLOTS)]
    outcome = {**os.environ, "BENCH_NOTE": str(note), "PYTHONPATH": str(PEERS), **environment}
    subprocess.run(command, env=outcome, check=True, cwd=PEERS)
    times = sorted(float(line) for line in note.read_text(encoding="ascii").split())
    return len(times) / (times[-1] - times[0])


async def _database(server_url: str) -> str:
    connection = await asyncpg.connect(server_url)
    await connection.execute("CREATE DATABASE procrastinate")
    await connection.close()
    head, _, tail = server_url.partition("?")
    return f"{head.rpartition('/')[0]}/procrastinate?{tail}"


def reads(made: Bench) -> None:
    """Status reads per second and p99 with 100,000 tasks in the table, alone and during two exports."""
    asyncio.run(_many_rows(made.postgres_url))
    with made.stack(workers=1) as stack, sign_in(stack.address) as client:
        raster = made.folder / "raster.tif"
        write_orthophoto(raster, size_px=ORTHOPHOTO_PX)
        with raster.open("rb") as content:
            client.put("/orgs/bench/ds/bench/obj/raster.tif", content=content, timeout=600).raise_for_status()
        headers = {"Authorization": client.headers["Authorization"]}
        task = submit(client, "nothing")
        status_reads = itertools.repeat(request("GET", f"{TASKS}/{task}", headers))
        alone = put_under_load(stack.address, status_reads, connections=32, seconds=5)
        print(f"status reads, 100,000 tasks, idle              {alone}", flush=True)
        done = threading.Event()
        exports = [threading.Thread(target=_export_on, args=(client, n, done)) for n in range(2)]
        for thread in exports:
            thread.start()
        until(lambda: client.get("/sys/tasks", params={"state": "Processing"}).json()["total"] == 2)
        busy = put_under_load(stack.address, status_reads, connections=32, seconds=10)
        print(f"status reads, 100,000 tasks, two exports run   {busy}", flush=True)
        done.set()
        for thread in exports:
            thread.join()


def _export_on(client: httpx.Client, number: int, done: threading.Event) -> None:
    while not done.is_set():
        body = {"toolId": "raster-export", "path": "raster.tif", "force": True}
        params = {"formula": "NDVI", "colormap": "rdylgn", "fileName": f"{number}.tif"}
        task = client.post(TASKS, json={**body, "params": params}).raise_for_status().json()["taskId"]
        until_succeeded(client, task)


async def _many_rows(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"""
        INSERT INTO tasks (id, org_id, dataset_id, user_id, tool_id, tool_version, params, dedup_key,
                           estimated_output_bytes, memory_bytes, state, finished_at)
        SELECT gen_random_uuid(), d.org_id, d.id, u.id, 'nothing', '1', '{{}}', int4send(n), 0, 0, 'Succeeded', now()
        FROM generate_series(1, {ROWS}) n, datasets d, users u WHERE d.slug = 'bench' AND u.user_name = 'admin'
    """)
    await connection.execute("VACUUM ANALYZE tasks")
    await connection.close()


if __name__ == "__main__":
    main()

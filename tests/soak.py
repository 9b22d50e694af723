"""Soak test: mixed load on a stack of its own, while its processes, servers and storage fail at random.

Not part of the suite: `make soak MINUTES=20 SEED=42` runs it. Four fifths of the time have failures; then the load goes on
without any, while descriptors, connections and memory must stay as they are. At the end every accepted task has ended,
every acknowledged file has its content, and nothing is left over.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import psutil
import pytest
from tests.conftest import QUICK
from tests.guarantees.invariants import assert_upheld, settings_of, sql, unnamed_files, work_folders
from tests.support.processes import hold_for
from tests.support.soak_failures import RandomFailures
from tests.support.soak_load import SoakClient
from tests.support.world import ENDED, World

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.stack import running_stack

MINUTES = float(os.environ.get("AEROTASK_SOAK_MINUTES") or 20)
SEED = int(os.environ.get("AEROTASK_SOAK_SEED") or 42)
CLIENTS = 4
WORKERS = 3
CALM_FRACTION = 0.2
WARM_UP_FRACTION = 0.3
"""Fraction of the calm time after which usage is measured first: caches and pools are filled by then."""
STALLED_S = 300.0

pytestmark = [pytest.mark.timeout(0), pytest.mark.filterwarnings("default")]


@pytest.fixture
def world(plugins: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A durable stack of its own, whose servers may crash."""
    data = tmp_path_factory.mktemp("soak")
    settings = {
        **QUICK,
        "PYTHONPATH": str(plugins),
        "AEROTASK_LEASE_TTL_S": "3",
        "AEROTASK_BLOB_GRACE_S": "30",
        "AEROTASK_MAX_ACTIVE_TASKS_PER_USER": "200",
    }
    with (data / "stack.log").open("ab") as log, OwnedFolder(data) as folder:
        try:
            with (
                running_stack(folder, workers=WORKERS, settings=settings, log=log) as stack,
                World(stack) as made,
            ):
                yield made
        finally:
            if kept := os.environ.get("AEROTASK_SOAK_LOG"):
                Path(kept).write_bytes((data / "stack.log").read_bytes())
            folder.discard()


def test_nothing_is_lost_and_nothing_is_left_over(world: World, tmp_path: Path) -> None:
    segments, rng, over = shared_memory_segments(), random.Random(SEED), threading.Event()
    dataset = world.dataset()
    clients = [
        SoakClient(n, dataset.seen_by(world.client("admin")), random.Random(SEED + n), over)
        for n in range(CLIENTS)
    ]
    failures = RandomFailures(world, rng, tmp_path)
    calm_s = 60 * MINUTES * CALM_FRACTION
    with ThreadPoolExecutor(CLIENTS) as threads:
        load = [threads.submit(client.run) for client in clients]
        try:
            deadline = time.monotonic() + 60 * MINUTES - calm_s
            while time.monotonic() < deadline:
                hold_for(rng.uniform(1, 5))
                failures.cause_one()
            failures.check_processes()
            world.stack.await_workers()
            hold_for(calm_s * WARM_UP_FRACTION)
            before = usage_of(world)
            hold_for(calm_s * (1 - WARM_UP_FRACTION))
            after = usage_of(world)
            failures.check_processes()
        finally:
            over.set()
    for each in load:
        each.result()

    await_drained(world)
    states = {str(row["id"]): row["state"] for row in sql(world, "SELECT id, state FROM tasks")}
    for client in clients:
        client.check_all()
    accepted = [task for client in clients for task in client.accepted]
    ends = Counter(states[task] for task in accepted if task in states)
    figures = {
        "minutes": MINUTES,
        "seed": SEED,
        "failures": dict(failures.done),
        "responses": dict(sum((client.statuses for client in clients), Counter[str]())),
        "accepted": len(accepted),
        "tasks": dict(ends),
        "before": {name: asdict(used) for name, used in before.items()},
        "after": {name: asdict(used) for name, used in after.items()},
    }
    print(json.dumps(figures, indent=2))  # noqa: T201  the figures of the run
    assert_upheld(world)
    assert ends["Succeeded"] > len(accepted) / 4
    assert [task for task in accepted if states.get(task) not in ENDED] == []
    assert [fault for client in clients for fault in client.faults] == []
    assert failures.faults == []
    assert shared_memory_segments() <= segments
    assert {name: used for name, used in after.items() if used.exceeds(before[name])} == {}


def await_drained(world: World) -> None:
    """Wait until nothing is left over, for as long as it becomes less.

    Raises:
        AssertionError: something stays, and what.
    """
    least, changed_at = math.inf, time.monotonic()
    while remaining := left_over(world):
        if len(remaining) < least:
            least, changed_at = len(remaining), time.monotonic()
        if time.monotonic() > changed_at + STALLED_S:
            raise AssertionError(f"{len(remaining)} are left over, such as: " + ", ".join(remaining[:20]))
        confirm_removal(world)
        hold_for(1)


def confirm_removal(world: World) -> None:
    """Do what `readyz` asks an operator for: the load has replaced and deleted most files that it wrote."""
    if world.admin.get("/readyz").json()["sweep"] == "needs-confirmation":
        command = [sys.executable, "-m", "aerotask", "storage", "sweep", "--confirm"]
        # Refused while a worker removes orphans.
        subprocess.run(command, env=world.stack.environment, capture_output=True, check=False)


def left_over(world: World) -> list[str]:
    """Remains of the load that have to go by themselves: unended tasks, unread files, rows and files without an owner."""
    try:
        waiting = sql(
            world,
            """
            SELECT 'task ' || id || ' is ' || state AS what FROM tasks WHERE state NOT IN ('Succeeded', 'Failed', 'Deleted')
            UNION ALL SELECT 'entry ' || path || ' is not indexed' FROM entries WHERE NOT indexed
            UNION ALL SELECT 'dataset ' || slug || ' is deleted, but its rows are not' FROM datasets WHERE deleted_at IS NOT NULL
            """,
        )
    except (OSError, asyncpg.PostgresError) as error:
        return [str(error)]
    storage = settings_of(world).storage_folder
    folders = [storage / name for name in ("partial", "uploads")]
    return [
        *(row["what"] for row in waiting),
        *(f"blob {key}" for key in unnamed_files(world)),
        *(f"work folder {name}" for name in work_folders(world)),
        *(str(file) for folder in folders for file in folder.iterdir()),
    ]


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources of a process."""

    descriptors: int
    rss_mib: int
    sockets: int
    """Connections to Postgres, Valkey and clients."""

    def exceeds(self, earlier: Usage) -> bool:
        """True if it has grown by more than the load's own variation."""
        return (
            self.descriptors > earlier.descriptors + 20
            or self.sockets > earlier.sockets + 10
            or self.rss_mib > 1.2 * earlier.rss_mib + 30
        )


def usage_of(world: World) -> dict[str, Usage]:
    """Resources of the API and the workers."""
    processes = {f"worker {n}": each.pid for n, each in enumerate(world.stack.workers, 1)}
    if world.stack.api is not None:
        processes["api"] = world.stack.api.pid
    return {name: _usage_of(psutil.Process(pid)) for name, pid in processes.items()}


def _usage_of(process: psutil.Process) -> Usage:
    return Usage(
        descriptors=process.num_fds(),
        rss_mib=process.memory_info().rss // 2**20,
        sockets=len(process.net_connections("all")),
    )


def shared_memory_segments() -> set[str]:
    """System V segments that outlive all processes which had them."""
    abandoned = set()
    with suppress(FileNotFoundError):
        for line in Path("/proc/sysvipc/shm").read_text(encoding="utf-8").splitlines()[1:]:
            key, segment, _mode, _size, _creator, _last, attached, *_ = line.split()
            if attached == "0":
                abandoned.add(f"{key}/{segment}")
    return abandoned

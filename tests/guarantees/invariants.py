"""Invariants that hold after any failure, checked in the database, the storage and the process table."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import psutil
from tests.support.world import World

from aerotask.config import Settings
from aerotask.domain.states import TRANSITIONS, TaskState
from aerotask.stack.waiting import await_condition

# Leases, orphans and processes are only checked once per poll, maintenance or heartbeat.
CONVERGE_S = 20.0
# Time for what is just under way: a commit, or maintenance that is about to begin.
SLACK_S = 3.0


def assert_upheld(world: World) -> None:
    """Wait until every invariant holds.

    Raises:
        AssertionError: one doesn't, and which.
    """
    broken: list[str] = []

    def upheld() -> bool:
        broken[:] = violations(world)
        return not broken

    if not await_condition(upheld, timeout_s=CONVERGE_S):
        raise AssertionError("\n".join(broken))


def violations(world: World) -> list[str]:
    """The invariants that don't hold at this moment."""
    settings = settings_of(world)
    rows: list[str] = ask(world, lambda db: _in_the_database(db, settings))
    return [*rows, *_blobs(world, settings), *_work_folders(world), *orphans(world)]


def settings_of(world: World) -> Settings:
    """The settings that the processes of the stack run with."""
    named = {
        name.removeprefix("AEROTASK_").lower(): value
        for name, value in world.stack.environment.items()
        if name.startswith("AEROTASK_")
    }
    return Settings.model_validate(named)


def ask(world: World, question: Callable[[Any], Awaitable[Any]]) -> Any:
    """The result of a query function, run over its own connection to the stack's database."""

    async def asked() -> Any:
        db = await asyncpg.connect(world.stack.environment["AEROTASK_DATABASE_URL"])
        try:
            return await question(db)
        finally:
            await db.close()

    return asyncio.run(asked())


def sql(world: World, statement: str, *values: object) -> list[Any]:
    """The rows of a query."""
    return list(ask(world, lambda db: db.fetch(statement, *values)))


# Rows


async def _leases(db: Any, _settings: Settings) -> list[str]:
    late = await db.fetch(
        "SELECT id FROM tasks WHERE state = 'Processing' AND lease_until < clock_timestamp()"
    )
    return [f"the lease of task {row['id']} is past due" for row in late]


async def _quotas(db: Any, settings: Settings) -> list[str]:
    limits = {
        "active": ("true", "id IS NULL", settings.quotas.active),
        "active per organization": ("true", "org_id::text", settings.quotas.active_per_org),
        "active per user": ("true", "user_id::text", settings.quotas.active_per_user),
        "running per user": ("state = 'Processing'", "user_id::text", settings.queue.running_per_user),
    }
    found = []
    for name, (which, whose, limit) in limits.items():
        most = await db.fetchval(
            "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM tasks WHERE "
            "state IN ('Created', 'Enqueued', 'Scheduled', 'Processing') "
            f"AND waits_for IS DISTINCT FROM 'scheduled-time' AND {which} GROUP BY {whose}) AS g"
        )
        if most > limit:
            found.append(f"{most} tasks are {name}, the limit is {limit}")
    return found


async def _logs(db: Any, _settings: Settings) -> list[str]:
    # The primary key allows no duplicate numbers, so the count and both ends prove that there is no gap.
    uneven = await db.fetch(
        """
        SELECT t.id, t.log_dropped, t.log_next, count(l.n) AS lines, min(l.n) AS first, max(l.n) AS last
        FROM tasks t LEFT JOIN task_log l ON l.task_id = t.id GROUP BY t.id
        HAVING count(l.n) <> t.log_next - t.log_dropped
            OR min(l.n) <> t.log_dropped OR max(l.n) <> t.log_next - 1
        """
    )
    return [f"the log of task {row['id']} has a gap: {dict(row)}" for row in uneven]


async def _artifacts(db: Any, settings: Settings) -> list[str]:
    wrong = await db.fetch(
        """
        WITH made AS (
            SELECT task_id, count(*) AS files, min(ordinal) AS first, max(ordinal) AS last, sum(size_bytes) AS bytes
            FROM artifacts GROUP BY task_id)
        SELECT t.id, t.state, t.artifact_bytes, m.* FROM tasks t LEFT JOIN made m ON m.task_id = t.id
        WHERE (m.files IS NOT NULL AND t.state <> 'Succeeded')
           OR (m.files IS NOT NULL AND (m.first <> 0 OR m.last <> m.files - 1 OR m.bytes <> t.artifact_bytes))
           OR (m.files IS NULL AND t.state = 'Succeeded' AND t.artifact_bytes > 0
               AND t.finished_at > clock_timestamp() + make_interval(secs => $1))
        """,
        settings.clock_offset_s - settings.retention.artifact_ttl_hours * 3600,
    )
    return [f"task {row['id']} has the wrong artifacts: {dict(row)}" for row in wrong]


async def _usage(db: Any, _settings: Settings) -> list[str]:
    wrong = await db.fetch(
        """
        WITH there AS (
            SELECT dataset_id, count(*) AS entries, sum(size_bytes) AS bytes FROM entries GROUP BY dataset_id)
        SELECT d.id, u.entries, u.size_bytes, t.entries AS true_entries, t.bytes
        FROM datasets d LEFT JOIN dataset_usage u ON u.dataset_id = d.id LEFT JOIN there t ON t.dataset_id = d.id
        WHERE (coalesce(u.entries, 0), coalesce(u.size_bytes, 0)) <> (coalesce(t.entries, 0), coalesce(t.bytes, 0))
        """
    )
    return [f"the sums of dataset {row['id']} are wrong: {dict(row)}" for row in wrong]


async def _histories(db: Any, _settings: Settings) -> list[str]:
    rows = await db.fetch("SELECT id, state, attempt, history FROM tasks")
    return [
        f"the history of task {row['id']} {fault}"
        for row in rows
        for fault in history_faults(orjson.loads(row["history"]), row["state"], row["attempt"])
    ]


def history_faults(history: list[Mapping[str, Any]], state: str, attempt: int) -> Iterator[str]:
    """Errors in a task's history, given its present state."""
    moves = [(event["from"], event["to"]) for event in history]
    if moves[0] != (None, "Created") or moves[-1][1] != state:
        yield f"begins or ends elsewhere: {moves}"
    if any(earlier[1] != later[0] for earlier, later in itertools.pairwise(moves)):
        yield f"has a leap: {moves}"
    if any(TaskState(to) not in TRANSITIONS[TaskState(before)] for before, to in moves[1:]):
        yield f"has a move that isn't allowed: {moves}"
    if sum(to == "Processing" for _, to in moves) != attempt:
        yield f"doesn't fit attempt {attempt}: {moves}"
    if [event["at"] for event in history] != sorted(event["at"] for event in history):
        yield "isn't in the order of time"


async def _in_the_database(db: Any, settings: Settings) -> list[str]:
    checks = (_leases, _quotas, _logs, _artifacts, _usage, _histories)
    return [line for check in checks for line in await check(db, settings)]


# Files


@dataclass(frozen=True, slots=True)
class Named:
    """A content that a row references."""

    key: str
    sha256: str
    what: str


def stored_files(world: World) -> dict[str, Path]:
    """The stored blobs by their keys."""
    return {file.name: file for file in (_storage(world) / "blobs").rglob("*") if file.is_file()}


def unnamed_files(world: World) -> set[str]:
    """The keys of the stored blobs that no row names, however young."""
    stored = set(stored_files(world))
    return stored - {item.key for item in ask(world, _named)}


def work_folders(world: World) -> list[str]:
    """The names of the work folders."""
    return sorted(folder.name for folder in (_storage(world) / "work").iterdir())


def _storage(world: World) -> Path:
    return settings_of(world).storage_folder


async def _named(db: Any) -> list[Named]:
    rows = await db.fetch(
        """
        SELECT blob_key, sha256, 'entry ' || path AS what FROM entries WHERE blob_key IS NOT NULL
        UNION ALL SELECT blob_key, sha256, kind || ' of ' || content_sha256 FROM derivatives
        UNION ALL SELECT blob_key, sha256, 'artifact of task ' || task_id FROM artifacts
        UNION ALL SELECT i.blob_key, i.sha256, 'input of task ' || t.id FROM task_inputs i JOIN tasks t ON t.id = i.task_id
            WHERE t.state IN ('Created', 'Enqueued', 'Scheduled', 'Processing')
        """
    )
    return [Named(row["blob_key"], row["sha256"], row["what"]) for row in rows]


def _blobs(world: World, settings: Settings) -> Iterator[str]:
    before = stored_files(world)
    named = ask(world, _named)
    after = stored_files(world)
    for item in named:
        file = after.get(item.key)
        if file is None:
            yield f"the content of {item.what} is missing"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != item.sha256:
            yield f"the content of {item.what} is not what its row says"
    period_s = max(settings.worker.sweep_s, settings.blob_grace_s / 4)
    # One period until maintenance first sees a blob without a name, one until it is removed after its grace time.
    horizon = time.time() - settings.blob_grace_s - 2 * period_s - SLACK_S
    keys = {item.key for item in named}
    for key, file in before.items():
        if key not in keys and key in after and _modified_before(file, horizon):
            yield f"no row names the blob {key}, and its grace time is over"


def _modified_before(file: Path, time_s: float) -> bool:
    """Whether the file is that old; not if the sweep has removed it meanwhile."""
    try:
        return file.stat().st_mtime < time_s
    except FileNotFoundError:
        return False


def _work_folders(world: World) -> Iterator[str]:
    held = sql(world, "SELECT id::text || '-' || attempt AS name FROM tasks WHERE state = 'Processing'")
    busy = {row["name"] for row in held}
    for name in work_folders(world):
        if not name.startswith(("index-", "draw-")) and name not in busy:
            yield f"the work folder {name} is left over"


# Processes


def orphans(world: World) -> Iterator[str]:
    """Processes that the stack's workers have started and no longer supervise.

    Whatever a worker starts has the worker's PYTHONPATH, and whoever started it above it.
    """
    ours = world.stack.environment["PYTHONPATH"]
    for process in psutil.process_iter():
        try:
            if process.environ().get("PYTHONPATH") != ours or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if os.getpid() not in {above.pid for above in process.parents()}:
                yield f"process {process.pid} is left over: {process.cmdline()}"
        except psutil.Error:  # it has ended meanwhile, or belongs to another user
            continue

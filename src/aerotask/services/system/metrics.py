"""Prometheus metrics of the system and of this process; they contain no names of users or datasets."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest

from aerotask.db.engine import Database
from aerotask.services.system.readiness import FULL, Readiness
from aerotask.store.queue import queue_depth
from aerotask.store.queue.queue_depth import QueueDepth
from aerotask.store.storage import damaged_blobs


async def exposition(db: Database, ready: Readiness) -> bytes:
    """The metrics in Prometheus' text format."""
    async with db.read() as connection:
        waiting = await queue_depth.read(connection)
        damaged = await damaged_blobs.count(connection)
    return generate_latest(_of_system(waiting, damaged, ready)) + generate_latest(REGISTRY)


def _of_system(waiting: QueueDepth, damaged: int, ready: Readiness) -> CollectorRegistry:
    # A new registry for each scrape, since these metrics come from Postgres.
    registry = CollectorRegistry()
    tasks = Gauge("aerotask_active_tasks", "Waiting and running tasks.", ["state"], registry=registry)
    for state, count in waiting.tasks.items():
        tasks.labels(state).set(count)
    oldest = "Seconds that the oldest due task has waited."
    Gauge("aerotask_oldest_due_seconds", oldest, registry=registry).set(waiting.oldest_due_s)
    what = "Stored files that were found damaged and not repaired yet."
    Gauge("aerotask_damaged_blobs", what, registry=registry).set(damaged)
    Gauge("aerotask_live_workers", "Workers with a live session.", registry=registry).set(ready.workers)
    held = "Unnamed files whose removal waits for `aerotask storage sweep --confirm`."
    Gauge("aerotask_sweep_held_blobs", held, registry=registry).set(ready.held_blobs)
    full = "1 if the storage is full, else 0."
    Gauge("aerotask_storage_full", full, registry=registry).set(ready.storage == FULL)
    Gauge("aerotask_ready", "1 if requests can be served and tasks run, else 0.", registry=registry).set(
        ready.ready
    )
    return registry

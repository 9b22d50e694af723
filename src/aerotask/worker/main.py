"""A worker process, put together: slots, heartbeat, hints, indexer, courier and sweeps, each a task with an owner."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
import structlog

from aerotask.cancelling import end
from aerotask.config import Settings
from aerotask.dispatch.arq import ArqListener
from aerotask.sandbox.confinement import tell_whether_children_are_confined
from aerotask.sandbox.hiding import hide_from_children
from aerotask.sandbox.spawner import Spawner
from aerotask.services.sweep import SweepService
from aerotask.store.callbacks import CHANNEL as CALLBACKS_CHANNEL
from aerotask.store.indexing import CHANNEL as ENTRIES_CHANNEL
from aerotask.store.logs import LogLimits
from aerotask.store.outages import is_outage
from aerotask.store.presence import Presence
from aerotask.store.steering import CANCEL_CHANNEL
from aerotask.wiring import Platform, open_platform, tool_limits
from aerotask.worker import forkserver
from aerotask.worker.courier import AT_ONCE, Courier
from aerotask.worker.indexer import Indexer
from aerotask.worker.means import AttemptLimits, Means
from aerotask.worker.post import Poster, Resolver
from aerotask.worker.slots import SlotLimits, Slots

_log = structlog.get_logger(__name__)


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; a second signal hands running tasks over at once."""
    hide_from_children()
    tell_whether_children_are_confined()
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(open_platform(settings, application="aerotask worker"))
        spawner = Spawner(forkserver.PROGRAM)
        stack.push_async_callback(spawner.close)
        await spawner.start()
        worker_no = secrets.randbelow(2**31 - 1) + 1
        listener = ArqListener(settings.redis_url.get_secret_value())
        means = _means(platform, settings, spawner, worker_no)
        slots = Slots(means, _slot_limits(settings), listener, platform.sweep)
        indexer = Indexer(platform.db, platform.blobs, spawner, settings.worker_poll_s)
        resolver = Resolver(threads=AT_ONCE)
        stack.callback(resolver.close)
        courier = _courier(platform, settings, resolver)
        presence = Presence(
            settings.database_url.get_secret_value(),
            worker_no=worker_no,
            channels={
                CANCEL_CHANNEL: slots.cancelled,
                ENTRIES_CHANNEL: indexer.wake,
                CALLBACKS_CHANNEL: courier.wake,
            },
        )
        _on_signals(slots.stop)
        present = asyncio.Event()
        background = [
            presence.run(present.set),
            slots.beat(),
            slots.recover(),
            slots.take_turns(),
            listener.run(lambda _hint: slots.wake()),
            indexer.run(),
            courier.run(),
            *_sweeps(platform.sweep, settings),
        ]
        _log.info("worker.started", worker_no=worker_no, slots=settings.worker_slots)
        await _run_beside(background, present, slots)
    _log.info("worker.stopped", worker_no=worker_no)


async def _run_beside(background: list[Awaitable[None]], present: asyncio.Event, slots: Slots) -> None:
    """Fill the slots until stopped, with everything else beside; what fails in one fails the worker."""
    others = [asyncio.ensure_future(work) for work in background]
    filling = asyncio.create_task(_fill_when_present(present, slots))
    try:
        done, _ = await asyncio.wait({filling, *others}, return_when=asyncio.FIRST_COMPLETED)
        for finished in done:
            finished.result()
    finally:
        await end(filling, *others)


async def _fill_when_present(present: asyncio.Event, slots: Slots) -> None:
    # Not before others can see that we live: they would take our tasks for a dead worker's.
    await present.wait()
    await slots.fill()


def _means(platform: Platform, settings: Settings, spawner: Spawner, worker_no: int) -> Means:
    return Means(
        worker_no=worker_no,
        db=platform.db,
        blobs=platform.blobs,
        registry=platform.registry,
        access=platform.access,
        spawner=spawner,
        limits=AttemptLimits(
            keep_log=LogLimits(settings.log_max_lines, settings.log_max_bytes),
            heartbeat_s=settings.heartbeat_s,
            cancel_grace_s=settings.cancel_grace_s,
            timeout_s=settings.task_timeout_s,
            max_strikes=settings.max_attempts,
            artifact_ttl=timedelta(hours=settings.artifact_ttl_hours),
            storage=platform.entries.storage,
            max_file_bytes=2 * settings.max_output_bytes,
            threads=_cores(),
            tools=tool_limits(settings),
        ),
    )


def _courier(platform: Platform, settings: Settings, resolver: Resolver) -> Courier:
    poster = Poster(
        timeout_s=settings.callback_timeout_s,
        allow_private=settings.callback_allow_private,
        tls=httpx.create_ssl_context(),
        resolve=resolver,
    )
    return Courier(platform.db, platform.access, platform.callbacks, poster, settings.worker_poll_s)


def _slot_limits(settings: Settings) -> SlotLimits:
    return SlotLimits(
        slots=settings.worker_slots,
        poll_s=settings.worker_poll_s,
        heartbeat_s=settings.heartbeat_s,
        lease_ttl_s=settings.lease_ttl_s,
        running_per_user=settings.max_running_tasks_per_user,
        shutdown_grace_s=settings.shutdown_grace_s,
    )


def _sweeps(sweep: SweepService, settings: Settings) -> list[Awaitable[None]]:
    return [
        _every(settings.sweep_s, sweep.expired_artifacts),
        _every(settings.sweep_s, sweep.unsent_hints),
        _every(settings.sweep_s, sweep.old_tasks),
        _every(settings.sweep_s, sweep.old_idempotency_keys),
        _every(settings.sweep_s, sweep.old_audit_events),
        _every(settings.sweep_s, sweep.old_sign_in_attempts),
        _every(settings.sweep_s, sweep.expired_uploads),
        _every(settings.sweep_s, sweep.deleted),
        _every(settings.sweep_s, sweep.unused_derivatives),
        _every(max(settings.sweep_s, settings.blob_grace_s / 4), sweep.orphans),
    ]


async def _every(period_s: float, sweep: Callable[[], Awaitable[int]]) -> None:
    while True:
        try:
            await sweep()
        except Exception as error:
            if not is_outage(error):
                raise
            _log.warning("sweep.delayed", error=str(error))
        await asyncio.sleep(period_s)


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

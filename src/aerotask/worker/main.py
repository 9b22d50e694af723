"""A worker process, put together: slots, heartbeat, hints, indexer, courier and sweeps, each a task with an owner."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import httpx
import structlog

from aerotask.aio import cancel_and_wait
from aerotask.config import Settings
from aerotask.dispatch.arq import ArqListener
from aerotask.net.guarded_http import GuardedClient, Resolver
from aerotask.sandbox.confinement import tell_whether_children_are_confined
from aerotask.sandbox.spawner import Spawner
from aerotask.sandbox.undumpable import hide_from_children
from aerotask.store.datasets.indexing import CHANNEL as ENTRIES_CHANNEL
from aerotask.store.queue.cancel import CANCEL_CHANNEL
from aerotask.store.queue.worker_session import WorkerSession
from aerotask.store.tasks.webhooks import CHANNEL as CALLBACKS_CHANNEL
from aerotask.wiring import Platform, open_platform
from aerotask.worker import maintenance, tool_child
from aerotask.worker.context import WorkerContext
from aerotask.worker.indexer import Indexer
from aerotask.worker.runner import TaskRunner
from aerotask.worker.webhook_delivery import AT_ONCE, Courier

# Beside the tasks, who may want a connection to write with at once: claims, heartbeat, recovery, turns, indexer,
# courier with a delivery that has ended, and the sweeps.
OTHERS = 7 + maintenance.CONNECTIONS

_log = structlog.get_logger(__name__)


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; a second signal hands running tasks over at once."""
    hide_from_children()
    tell_whether_children_are_confined()
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(
            open_platform(
                settings,
                application="aerotask worker",
                connections=settings.worker.slots + OTHERS,
            )
        )
        spawner = Spawner(tool_child.PROGRAM)
        stack.push_async_callback(spawner.close)
        await spawner.start()
        worker_no = secrets.randbelow(2**31 - 1) + 1
        listener = ArqListener(settings.redis_url.get_secret_value())
        means = _means(platform, settings, spawner, worker_no)
        slots = TaskRunner(means, listener, platform.maintenance)
        indexer = Indexer(platform.db, platform.blobs, spawner, settings.queue.poll_s)
        resolver = Resolver(threads=AT_ONCE)
        stack.callback(resolver.close)
        courier = _courier(platform, settings, resolver)
        presence = WorkerSession(
            settings.database_url.get_secret_value(),
            worker_no=worker_no,
            channels={
                CANCEL_CHANNEL: slots.cancelled,
                ENTRIES_CHANNEL: indexer.bell.ring,
                CALLBACKS_CHANNEL: courier.bell.ring,
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
            *maintenance.rounds(
                platform.maintenance, period_s=settings.worker.sweep_s, blob_grace_s=settings.blob_grace_s
            ),
        ]
        _log.info("worker.started", worker_no=worker_no, slots=settings.worker.slots)
        await _run_beside(background, slots.fill(present))
    _log.info("worker.stopped", worker_no=worker_no)


async def _run_beside(background: list[Awaitable[None]], filling_slots: Coroutine[Any, Any, None]) -> None:
    """Fill the slots until stopped, with everything else beside; what fails in one fails the worker."""
    others = [asyncio.ensure_future(work) for work in background]
    filling = asyncio.create_task(filling_slots)
    try:
        done, _ = await asyncio.wait({filling, *others}, return_when=asyncio.FIRST_COMPLETED)
        for finished in done:
            finished.result()
    finally:
        await cancel_and_wait(filling, *others)


def _means(platform: Platform, settings: Settings, spawner: Spawner, worker_no: int) -> WorkerContext:
    return WorkerContext(
        worker_no=worker_no,
        db=platform.db,
        blobs=platform.blobs,
        registry=platform.registry,
        access=platform.access,
        spawner=spawner,
        settings=settings,
        tool_limits=platform.submit.limits,
        threads=_cores(),
    )


def _courier(platform: Platform, settings: Settings, resolver: Resolver) -> Courier:
    poster = GuardedClient(
        timeout_s=settings.webhooks.timeout_s,
        allow_private=settings.webhooks.allow_private,
        tls=httpx.create_ssl_context(),
        resolve=resolver,
    )
    return Courier(platform.db, platform.access, platform.webhooks, poster, settings.queue.poll_s)


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

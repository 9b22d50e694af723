"""Worker process: task runner, heartbeat, wakeups, indexer, webhook delivery and maintenance side by side."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import structlog

from aerotask.aio import cancel_and_wait
from aerotask.blobs.storage_root import StorageRoot
from aerotask.config import Settings
from aerotask.dispatch.arq import ArqListener
from aerotask.net.guarded_http import GuardedClient, Resolver
from aerotask.sandbox.confinement import log_confinement
from aerotask.sandbox.kernel.undumpable import make_undumpable
from aerotask.sandbox.spawner import Spawner
from aerotask.services.storage.installation import InstallationService
from aerotask.services.tasks.outcome.commit import CommitService
from aerotask.store.datasets.index_queue import CHANNEL as ENTRIES_CHANNEL
from aerotask.store.queue.cancel import CANCEL_CHANNEL
from aerotask.store.queue.worker_session import WorkerSession
from aerotask.store.tasks.webhooks import CHANNEL as WEBHOOKS_CHANNEL
from aerotask.wiring import Platform, open_platform
from aerotask.worker import maintenance, tool_child
from aerotask.worker.context import WorkerContext
from aerotask.worker.folder_removal import FolderRemoval
from aerotask.worker.indexing.indexer import LANES, Indexer, indexers
from aerotask.worker.indexing.overviews import OverviewMaker
from aerotask.worker.runner import TaskRunner
from aerotask.worker.webhook_delivery import MAX_DELIVERIES, WebhookDelivery

# Connections that may be needed at once beside those of the tasks: indexers, overviews, webhook delivery (two), and
# maintenance.
# Claim, heartbeat, recovery, admission, throttling and reports have their own pool (`Database.begin_short`).
OTHERS = 3 + len(LANES) + maintenance.CONNECTIONS
INDEX_POLLS = 5
"""Polls of the task queue for one of the index, whose new entries come with a notification."""

_log = structlog.get_logger(__name__)


async def run_worker(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; a second signal hands running tasks over at once."""
    make_undumpable()
    log_confinement(StorageRoot(settings.storage_folder).work, with_folders=True)
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(
            open_platform(
                settings,
                application="aerotask worker",
                connections=settings.worker.slots + OTHERS,
            )
        )
        if not await _verified(platform.installation):
            return
        spawner = Spawner(tool_child.PROGRAM)
        stack.push_async_callback(spawner.close)
        await spawner.start()
        worker_no = secrets.randbelow(2**31 - 1) + 1
        listener = ArqListener(settings.redis_url.get_secret_value())
        context = _worker_context(platform, settings, spawner, worker_no)
        runner = TaskRunner(context, listener, platform.maintenance, platform.admission)
        indexing = indexers(platform.db, platform.blobs, spawner, INDEX_POLLS * settings.queue.poll_s)
        overviews = OverviewMaker(
            platform.db, platform.blobs, spawner, context.threads, INDEX_POLLS * settings.queue.poll_s
        )
        resolver = Resolver(threads=MAX_DELIVERIES)
        stack.callback(resolver.close)
        delivery = _webhook_delivery(platform, settings, resolver)
        session = WorkerSession(
            settings.database_url.get_secret_value(),
            worker_no=worker_no,
            channels={
                CANCEL_CHANNEL: runner.on_cancelled,
                ENTRIES_CHANNEL: partial(_wake_all, [*indexing, overviews]),
                WEBHOOKS_CHANNEL: delivery.wakeup.set,
            },
        )
        _on_signals(runner.stop)
        present = asyncio.Event()
        background = [
            session.run(present.set),
            runner.heartbeat(),
            runner.recover_lost(),
            runner.sort_waiting(),
            listener.run(lambda _wakeup: runner.wake()),
            *[indexer.run() for indexer in indexing],
            overviews.run(),
            delivery.run(),
            *maintenance.loops(
                platform.maintenance, period_s=settings.worker.sweep_s, blob_grace_s=settings.blob_grace_s
            ),
        ]
        _log.info("worker.started", worker_no=worker_no, slots=settings.worker.slots)
        await _run_beside(background, runner.run(present))
    _log.info("worker.stopped", worker_no=worker_no)


async def _verified(installation: InstallationService) -> bool:
    """Wait until database and storage are there, and belong together; False if the worker is stopped meanwhile.

    Raises:
        StorageMismatch: they don't belong together.
    """
    stopping = asyncio.Event()
    _on_signals(stopping.set)
    verifying = asyncio.create_task(installation.verify_until_reached())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({verifying, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if verifying.done():
            verifying.result()
        return verifying.done()
    finally:
        await cancel_and_wait(verifying, stopped)


def _wake_all(indexing: Sequence[Indexer | OverviewMaker], _payload: str) -> None:
    for each in indexing:
        each.wakeup.set()


async def _run_beside(background: list[Awaitable[None]], main_loop: Coroutine[Any, Any, None]) -> None:
    """Run the main loop until it ends, with everything else beside it; an error in any of them ends the worker."""
    others = [asyncio.ensure_future(work) for work in background]
    running = asyncio.create_task(main_loop)
    try:
        done, _ = await asyncio.wait({running, *others}, return_when=asyncio.FIRST_COMPLETED)
        for finished in done:
            finished.result()
    finally:
        await cancel_and_wait(running, *others)


def _worker_context(
    platform: Platform, settings: Settings, spawner: Spawner, worker_no: int
) -> WorkerContext:
    return WorkerContext(
        worker_no=worker_no,
        db=platform.db,
        blobs=platform.blobs,
        registry=platform.registry,
        access=platform.access,
        commits=CommitService(
            platform.db,
            platform.blobs,
            settings.storage,
            settings.logs,
            artifact_ttl=timedelta(hours=settings.retention.artifact_ttl_hours),
            actor=f"worker {worker_no}",
        ),
        damage=platform.damage,
        spawner=spawner,
        folder_removal=FolderRemoval(platform.blobs),
        settings=settings,
        tool_limits=platform.submit.limits,
        threads=_cores(),
    )


def _webhook_delivery(platform: Platform, settings: Settings, resolver: Resolver) -> WebhookDelivery:
    client = GuardedClient(
        timeout_s=settings.webhooks.timeout_s,
        allow_private=settings.webhooks.allow_private,
        tls=httpx.create_ssl_context(),
        resolve=resolver,
    )
    return WebhookDelivery(platform.db, platform.access, platform.webhooks, client, settings.queue.poll_s)


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

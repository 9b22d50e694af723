"""Task runner of a worker: claims tasks, runs them within a concurrency limit, and drains on a stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from aerotask.aio import cancel_and_wait, first_completed
from aerotask.db.engine import PostgresAway
from aerotask.db.outages import tolerate
from aerotask.dispatch.dispatcher import WakeupListener
from aerotask.failpoints import failpoint
from aerotask.services.tasks.admission import AdmissionService
from aerotask.services.tasks.maintenance import MaintenanceService
from aerotask.store.queue import claims, leases
from aerotask.store.queue.claims import ClaimedTask
from aerotask.worker.attempt import Attempt
from aerotask.worker.context import WorkerContext
from aerotask.worker.wakeup import WakeupEvent

# A hand-over is one transaction; the supervisor that stops us won't wait for Postgres to come back.
HAND_OVER_S = 5.0
# Pause before another claim if a wakeup led to none: its task may have been locked for a moment by the transaction
# that notes that the wakeup was sent.
LOCKED_S = 0.02

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TaskRunner:
    """Runs tasks until stopped."""

    context: WorkerContext
    listener: WakeupListener
    maintenance: MaintenanceService
    admission: AdmissionService
    _running: dict[Attempt, asyncio.Task[None]] = field(default_factory=dict)
    _wakeup: WakeupEvent = field(default_factory=WakeupEvent)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """There may be a task to run."""
        self._wakeup.set()

    def on_cancelled(self, lease_name: str) -> None:
        """Stop the attempt if it is one of ours, instead of waiting for the next heartbeat."""
        for attempt in self._running:
            if attempt.task.lease.name == lease_name:
                attempt.mark_lost()

    def stop(self) -> None:
        """Claim no more tasks; a second call hands the running ones over at once."""
        if self._stopping.is_set():
            self._hand_over()
        self._stopping.set()
        self._wakeup.set()

    async def run(self, present: asyncio.Event) -> None:
        """Claim and start tasks whenever a slot is free, until stopped; then drain.

        Starts once the worker session is `present`, otherwise others would recover our tasks as a dead worker's.
        """
        await first_completed(present.wait(), self._stopping.wait())
        woken = False
        while not self._stopping.is_set():
            free = self.context.settings.worker.slots - len(self._running)
            # A wakeup or a finished task means that there may be a task; a mere poll checks before it takes
            # the lock of a claim.
            claimed = await self._claim(free, check_first=not woken) if free else []
            for task in claimed:
                self._start(task)
            poll_s = self.context.settings.queue.poll_s
            woken = await self._wakeup.wait(min(LOCKED_S, poll_s) if woken and not claimed else poll_s)
        await self._drain()

    async def heartbeat(self) -> None:
        """Renew the leases once per interval, and stop attempts whose lease is lost, until cancelled."""
        while True:
            if self._running:
                await tolerate("worker.delayed", self._renew(), doing="heartbeat")
            await asyncio.sleep(self.context.settings.queue.heartbeat_s)

    async def recover_lost(self) -> None:
        """Recover the tasks of lost workers, twice per poll, until cancelled.

        A lost task waits for this interval after the time without heartbeats that makes a worker lost.
        """
        while True:
            requeued = await tolerate("worker.delayed", self.maintenance.recover_lost(), doing="recovery")
            if requeued:
                self.wake()
            await self.context.folder_removal.retry()
            await asyncio.sleep(self.context.settings.queue.poll_s / 2)

    async def sort_waiting(self) -> None:
        """Admit due tasks, and mark those that wait for their user's concurrency limit, once per poll, until cancelled."""
        while True:
            if await tolerate("worker.delayed", self.admission.admit_due(), doing="admission"):
                self.wake()
            await tolerate("worker.delayed", self.maintenance.mark_throttled(), doing="throttling")
            await asyncio.sleep(self.context.settings.queue.poll_s)

    async def _claim(self, free: int, *, check_first: bool) -> list[ClaimedTask]:
        claiming = self._claim_next(free, check_first=check_first)
        return await tolerate("worker.delayed", claiming, doing="claim") or []

    async def _claim_next(self, free: int, *, check_first: bool) -> list[ClaimedTask]:
        db = self.context.db
        if check_first:
            async with db.read() as connection:
                if not await claims.any_due(connection):
                    return []
        async with db.begin_short() as connection:
            claimed = await claims.claim_next(
                connection,
                worker_no=self.context.worker_no,
                ttl_s=self.context.settings.queue.lease_ttl_s,
                max_running_per_user=self.context.settings.queue.running_per_user,
                max_count=free,
            )
        for _ in claimed:
            failpoint("task-claimed", fails_as=PostgresAway)
        return claimed

    def _start(self, claimed: ClaimedTask) -> None:
        attempt = Attempt(self.context, claimed)
        running = asyncio.create_task(attempt.run(), name=f"attempt {claimed.lease.task_id}")
        self._running[attempt] = running
        running.add_done_callback(lambda done: self._ended(attempt, done))
        self.listener.accept(more=len(self._running) < self.context.settings.worker.slots)

    def _ended(self, attempt: Attempt, done: asyncio.Task[None]) -> None:
        del self._running[attempt]
        self.listener.accept(more=not self._stopping.is_set())
        self._wakeup.set()
        error = None if done.cancelled() else done.exception()
        if error is not None:
            # The lease expires and the task is retried; the error must not end the worker.
            _log.error("attempt.failed", task_id=str(attempt.task.lease.task_id), exc_info=error)

    async def _renew(self) -> None:
        before = list(self._running)
        async with self.context.db.begin_short() as connection:
            held = await leases.renew(
                connection,
                [attempt.task.lease.token for attempt in before],
                worker_no=self.context.worker_no,
                ttl_s=self.context.settings.queue.lease_ttl_s,
            )
        for attempt in before:
            attempt.touch()
            if attempt.task.lease.token not in held:
                attempt.mark_lost()

    async def _drain(self) -> None:
        self.listener.accept(more=False)
        if self._running:
            _log.info(
                "worker.finishing",
                tasks=len(self._running),
                grace_s=self.context.settings.worker.shutdown_grace_s,
            )
            await asyncio.wait(
                set(self._running.values()), timeout=self.context.settings.worker.shutdown_grace_s
            )
        self._hand_over()
        if self._running:
            await asyncio.wait(set(self._running.values()), timeout=HAND_OVER_S)
            await self._abandon()

    async def _abandon(self) -> None:
        """Cancel attempts that can't be handed over because Postgres is away; other workers get them when the leases expire."""
        abandoned = set(self._running.values())
        if abandoned:
            _log.warning("worker.leaving", tasks=len(abandoned))
        await cancel_and_wait(*abandoned)

    def _hand_over(self) -> None:
        for attempt in self._running:
            attempt.hand_over()

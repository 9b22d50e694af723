"""The slots of one worker: filled from Postgres, watched by the heartbeat, emptied on a stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from aerotask.aio import cancel_and_wait, first_completed
from aerotask.db.engine import PostgresAway
from aerotask.db.outages import tolerate
from aerotask.dispatch.dispatcher import WakeupListener
from aerotask.failpoints import failpoint
from aerotask.services.tasks.maintenance import MaintenanceService
from aerotask.store.queue import claims, leases
from aerotask.store.queue.claims import ClaimedTask
from aerotask.worker.attempt import Attempt
from aerotask.worker.context import WorkerContext
from aerotask.worker.wakeup import WakeupEvent

# A hand-over is one transaction; who stops us won't wait for Postgres to come back.
HAND_OVER_S = 5.0

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TaskRunner:
    """Runs tasks until told to stop."""

    means: WorkerContext
    listener: WakeupListener
    sweep: MaintenanceService
    _running: dict[Attempt, asyncio.Task[None]] = field(default_factory=dict)
    _bell: WakeupEvent = field(default_factory=WakeupEvent)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """There may be a task to run."""
        self._bell.ring()

    def cancelled(self, which: str) -> None:
        """An attempt has been cancelled, maybe one of ours: don't wait for the heartbeat to find out."""
        for attempt in self._running:
            if attempt.task.lease.name == which:
                attempt.lose()

    def stop(self) -> None:
        """Take no more tasks; asked a second time, hand over those that run at once."""
        if self._stopping.is_set():
            self._hand_over()
        self._stopping.set()
        self._bell.ring()

    async def fill(self, present: asyncio.Event) -> None:
        """Claim and start tasks whenever a slot is free, until stopped; then wait for them, or hand over.

        Not before others can see that we live (`present`): they would take our tasks for a dead worker's.
        """
        await first_completed(present.wait(), self._stopping.wait())
        woken = False
        while not self._stopping.is_set():
            free = self.means.settings.worker.slots - len(self._running)
            # What woke us, a hint or a slot that is free again, tells that there may be a task; a poll tells
            # nothing, so it looks before it claims.
            for claimed in await self._claim(free, look_first=not woken) if free else ():
                self._start(claimed)
            woken = await self._bell.rest(self.means.settings.queue.poll_s)
        await self._empty()

    async def beat(self) -> None:
        """Renew the leases once a heartbeat, and drop what is no longer ours, until cancelled."""
        while True:
            if self._running:
                await tolerate("worker.delayed", self._renew(), doing="heartbeat")
            await asyncio.sleep(self.means.settings.queue.heartbeat_s)

    async def recover(self) -> None:
        """Look for tasks of lost workers until cancelled.

        Twice a poll: together with the silence that it takes to be lost, this is how long such a task waits.
        """
        while True:
            freed = await tolerate("worker.delayed", self.sweep.lost_workers(), doing="recovery")
            if freed:
                self.wake()
            await asyncio.sleep(self.means.settings.queue.poll_s / 2)

    async def take_turns(self) -> None:
        """Say once a poll of which tasks that they wait for a turn, until cancelled."""
        while True:
            await tolerate("worker.delayed", self.sweep.turns(), doing="turns")
            await asyncio.sleep(self.means.settings.queue.poll_s)

    async def _claim(self, free: int, *, look_first: bool) -> list[ClaimedTask]:
        claiming = self._claim_next(free, look_first=look_first)
        return await tolerate("worker.delayed", claiming, doing="claim") or []

    async def _claim_next(self, free: int, *, look_first: bool) -> list[ClaimedTask]:
        db = self.means.db
        if look_first:
            async with db.read() as connection:
                if not await claims.any_due(connection):
                    return []
        async with db.begin() as connection:
            claimed = await claims.claim_next(
                connection,
                worker_no=self.means.worker_no,
                ttl_s=self.means.settings.queue.lease_ttl_s,
                running_per_user=self.means.settings.queue.running_per_user,
                at_most=free,
            )
        for _ in claimed:
            failpoint("task-claimed", fails_as=PostgresAway)
        return claimed

    def _start(self, claimed: ClaimedTask) -> None:
        attempt = Attempt(self.means, claimed)
        running = asyncio.create_task(attempt.run(), name=f"attempt {claimed.lease.task_id}")
        self._running[attempt] = running
        running.add_done_callback(lambda done: self._ended(attempt, done))
        self.listener.accept(more=len(self._running) < self.means.settings.worker.slots)

    def _ended(self, attempt: Attempt, done: asyncio.Task[None]) -> None:
        del self._running[attempt]
        self.listener.accept(more=not self._stopping.is_set())
        self._bell.ring()
        error = None if done.cancelled() else done.exception()
        if error is not None:
            # The lease runs out, and the task is tried again; the worker lives on.
            _log.error("attempt.broken", task_id=str(attempt.task.lease.task_id), exc_info=error)

    async def _renew(self) -> None:
        before = list(self._running)
        async with self.means.db.begin() as connection:
            held = await leases.renew(
                connection,
                [attempt.task.lease.token for attempt in before],
                worker_no=self.means.worker_no,
                ttl_s=self.means.settings.queue.lease_ttl_s,
            )
        for attempt in before:
            attempt.touch()
            if attempt.task.lease.token not in held:
                attempt.lose()

    async def _empty(self) -> None:
        self.listener.accept(more=False)
        if self._running:
            _log.info(
                "worker.finishing",
                tasks=len(self._running),
                grace_s=self.means.settings.worker.shutdown_grace_s,
            )
            await asyncio.wait(
                set(self._running.values()), timeout=self.means.settings.worker.shutdown_grace_s
            )
        self._hand_over()
        if self._running:
            await asyncio.wait(set(self._running.values()), timeout=HAND_OVER_S)
            await self._leave()

    async def _leave(self) -> None:
        """Let go of what can't be handed over, since Postgres is away: the leases tell others, later."""
        left = set(self._running.values())
        if left:
            _log.warning("worker.leaving", tasks=len(left))
        await cancel_and_wait(*left)

    def _hand_over(self) -> None:
        for attempt in self._running:
            attempt.hand_over()

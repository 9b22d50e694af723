"""The slots of one worker: filled from Postgres, watched by the heartbeat, emptied on a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import structlog

from aerotask.cancelling import end
from aerotask.dispatch.port import HintListener
from aerotask.failpoints import failpoint
from aerotask.services.sweep import SweepService
from aerotask.store import claims, leases
from aerotask.store.claims import ClaimedTask
from aerotask.store.outages import is_outage
from aerotask.worker.attempt import Attempt
from aerotask.worker.means import Means

OUTAGE_RETRY_S = 0.5
# A hand-over is one transaction; who stops us won't wait for Postgres to come back.
HAND_OVER_S = 5.0

T = TypeVar("T")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """How many tasks run at once, and how the worker keeps in touch."""

    slots: int
    poll_s: float
    heartbeat_s: float
    lease_ttl_s: float
    running_per_user: int
    shutdown_grace_s: float


@dataclass(slots=True)
class Slots:
    """Runs tasks until told to stop."""

    means: Means
    limits: SlotLimits
    listener: HintListener
    sweep: SweepService
    _running: dict[Attempt, asyncio.Task[None]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """There may be a task to run."""
        self._wake.set()

    def cancelled(self, task_id: str) -> None:
        """A task has been cancelled, maybe one of ours: don't wait for the heartbeat to find out."""
        with suppress(ValueError):
            for attempt in self._running:
                if attempt.task.lease.task_id == UUID(task_id):
                    attempt.lose()

    def stop(self) -> None:
        """Take no more tasks; asked a second time, hand over those that run at once."""
        if self._stopping.is_set():
            self._hand_over()
        self._stopping.set()
        self._wake.set()

    async def fill(self) -> None:
        """Claim and start tasks whenever a slot is free, until stopped; then wait for them, or hand over."""
        while not self._stopping.is_set():
            # What woke us, a hint or a slot that is free again, tells that there may be a task; a poll tells
            # nothing, so it looks before it claims.
            woken = self._wake.is_set()
            self._wake.clear()
            free = self.limits.slots - len(self._running)
            for claimed in await self._claim(free, look_first=not woken) if free else ():
                self._start(claimed)
            # Not `wait_for`, which in Python 3.11 loses a cancellation that meets the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.poll_s):
                    await self._wake.wait()
        await self._empty()

    async def beat(self) -> None:
        """Renew the leases once a heartbeat, and drop what is no longer ours, until cancelled."""
        while True:
            if self._running:
                await self._tolerating_outages("heartbeat", self._renew())
            await asyncio.sleep(self.limits.heartbeat_s)

    async def recover(self) -> None:
        """Look for tasks of lost workers until cancelled.

        Twice a poll: together with the silence that it takes to be lost, this is how long such a task waits.
        """
        while True:
            freed = await self._tolerating_outages("recovery", self.sweep.lost_workers())
            if freed:
                self.wake()
            await asyncio.sleep(self.limits.poll_s / 2)

    async def take_turns(self) -> None:
        """Say once a poll of which tasks that they wait for a turn, until cancelled."""
        while True:
            await self._tolerating_outages("turns", self.sweep.turns())
            await asyncio.sleep(self.limits.poll_s)

    async def _claim(self, free: int, *, look_first: bool) -> list[ClaimedTask]:
        return await self._tolerating_outages("claim", self._claim_next(free, look_first=look_first)) or []

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
                ttl_s=self.limits.lease_ttl_s,
                running_per_user=self.limits.running_per_user,
                at_most=free,
            )
        for _ in claimed:
            failpoint("task-claimed")
        return claimed

    def _start(self, claimed: ClaimedTask) -> None:
        attempt = Attempt(self.means, claimed)
        running = asyncio.create_task(attempt.run(), name=f"attempt {claimed.lease.task_id}")
        self._running[attempt] = running
        running.add_done_callback(lambda done: self._ended(attempt, done))
        self.listener.accept(more=len(self._running) < self.limits.slots)

    def _ended(self, attempt: Attempt, done: asyncio.Task[None]) -> None:
        del self._running[attempt]
        self.listener.accept(more=not self._stopping.is_set())
        self._wake.set()
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
                ttl_s=self.limits.lease_ttl_s,
            )
        for attempt in before:
            attempt.touch()
            if attempt.task.lease.token not in held:
                attempt.lose()

    async def _empty(self) -> None:
        self.listener.accept(more=False)
        if self._running:
            _log.info("worker.finishing", tasks=len(self._running), grace_s=self.limits.shutdown_grace_s)
            await asyncio.wait(set(self._running.values()), timeout=self.limits.shutdown_grace_s)
        self._hand_over()
        if self._running:
            await asyncio.wait(set(self._running.values()), timeout=HAND_OVER_S)
            await self._leave()

    async def _leave(self) -> None:
        """Let go of what can't be handed over, since Postgres is away: the leases tell others, later."""
        left = set(self._running.values())
        if left:
            _log.warning("worker.leaving", tasks=len(left))
        await end(*left)

    def _hand_over(self) -> None:
        for attempt in self._running:
            attempt.hand_over()

    async def _tolerating_outages(self, doing: str, step: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await step
        except Exception as error:
            if not is_outage(error):
                raise
            _log.warning("worker.delayed", doing=doing, error=str(error))
            await asyncio.sleep(OUTAGE_RETRY_S)
            return None

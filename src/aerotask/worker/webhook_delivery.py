"""Delivers the messages that receivers are owed, beside the worker's tasks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import SystemRandom
from typing import Any

import structlog

from aerotask import __version__
from aerotask.aio import cancel_and_wait
from aerotask.db.engine import Database
from aerotask.db.outages import is_outage, outlast, tolerate
from aerotask.domain.access import Access
from aerotask.domain.errors import InvalidInput
from aerotask.domain.ids import DatasetId, UserId
from aerotask.domain.retry import OUTAGE_S
from aerotask.domain.webhooks import NextStep, WebhookState, after_attempt
from aerotask.net.addresses import check_url
from aerotask.net.guarded_http import GuardedClient, PostResult
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.tasks.webhooks import WebhookService
from aerotask.store.tasks import webhooks
from aerotask.store.tasks.webhooks import ClaimedWebhook
from aerotask.worker.wakeup import WakeupEvent

AT_ONCE = 16
# So that neither somebody's slow receiver nor a slow host of many people's holds up all others.
AT_ONCE_PER_USER = 4
AT_ONCE_PER_HOST = 4
# Beyond the time of a try, for what comes before and after it; then another worker may try.
HOLD_SLACK_S = 15.0
LOST = PostResult(None, "Whoever submitted the task may not read the dataset any more.")

_chance = SystemRandom().random
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Courier:
    """The courier of one worker. A message is held by one courier at a time, and delivered at least once."""

    db: Database
    access: PermissionService
    keys: WebhookService
    poster: GuardedClient
    poll_s: float
    _under_way: dict[asyncio.Task[None], ClaimedWebhook] = field(default_factory=dict)
    bell: WakeupEvent = field(default_factory=WakeupEvent)
    """Rings when there may be something to deliver."""

    async def run(self) -> None:
        """Deliver until cancelled; then leave what is under way to others."""
        try:
            while True:
                free = len(self._under_way) < AT_ONCE
                message = await tolerate("callbacks.delayed", self._next()) if free else None
                if message is None:
                    await self.bell.rest(self.poll_s)
                else:
                    self._start(message)
        finally:
            await self._let_go()

    async def _next(self) -> ClaimedWebhook | None:
        users = Counter(message.user_id for message in self._under_way.values())
        hosts = Counter(message.host for message in self._under_way.values())
        async with self.db.begin() as connection:
            return await webhooks.hold_next(
                connection,
                hold_s=self.poster.timeout_s + HOLD_SLACK_S,
                without_users=[user for user, n in users.items() if user and n >= AT_ONCE_PER_USER],
                without_hosts=[host for host, n in hosts.items() if n >= AT_ONCE_PER_HOST],
            )

    def _start(self, message: ClaimedWebhook) -> None:
        delivery = asyncio.create_task(self._deliver(message), name=f"callback {message.id}")
        self._under_way[delivery] = message
        delivery.add_done_callback(self._ended)

    def _ended(self, delivery: asyncio.Task[None]) -> None:
        message = self._under_way.pop(delivery)
        self.bell.ring()
        error = None if delivery.cancelled() else delivery.exception()
        if error is not None:
            # It is tried again when its time with us has run out; the worker lives on.
            _log.error("callback.broken", callback_id=str(message.id), exc_info=error)

    async def _deliver(self, message: ClaimedWebhook) -> None:
        sent_at, begun = datetime.now(UTC), time.monotonic()
        outcome, then = await self._tried(message, sent_at)
        attempt = {
            "at": sent_at.isoformat().replace("+00:00", "Z"),
            "status": outcome.status,
            "error": outcome.error,
            "durationMs": round(1000 * (time.monotonic() - begun)),
        }
        await outlast(lambda: self._record(message, attempt, then), give_up_after_s=OUTAGE_S)
        _log.info(
            "callback.tried",
            callback_id=str(message.id),
            task_id=str(message.task_id),
            host=message.host,
            status=outcome.status,
            error=outcome.error,
            now=then.state,
        )

    async def _tried(self, message: ClaimedWebhook, sent_at: datetime) -> tuple[PostResult, NextStep]:
        user_id = message.user_id
        if user_id is None or not await self._may_read(user_id, message.dataset_id):
            return LOST, NextStep(WebhookState.GIVEN_UP)
        try:
            # Taken apart, not judged by its spelling: the poster judges the addresses that it connects to.
            to = check_url(message.url, allow_private=True)
        except InvalidInput as error:  # from before the rules became stricter
            return PostResult(None, error.message), NextStep(WebhookState.GIVEN_UP)
        headers = {
            "User-Agent": f"aerotask/{__version__}",
            "Content-Type": "application/json",
            **self.keys.key_of(user_id).headers(message.id, sent_at, message.body),
        }
        outcome = await self.poster.post(to, headers, message.body)
        return outcome, after_attempt(status=outcome.status, tries=message.tries + 1, chance=_chance())

    async def _may_read(self, user_id: UserId, dataset_id: DatasetId) -> bool:
        """Whether the task's owner, whose receiver would get the status, could still read it by themselves."""
        rights = await outlast(
            lambda: self.access.rights_of_user(user_id, dataset_id), give_up_after_s=HOLD_SLACK_S
        )
        return Access.READ in rights

    async def _record(self, message: ClaimedWebhook, attempt: Mapping[str, Any], then: NextStep) -> None:
        async with self.db.begin() as connection:
            await webhooks.record_try(connection, message, attempt, then)

    async def _let_go(self) -> None:
        held = dict(self._under_way)
        await cancel_and_wait(*held)
        if not held:
            return
        try:
            async with self.db.begin() as connection:
                await webhooks.let_go(connection, list(held.values()))
        except Exception as error:
            if not is_outage(error):
                raise
            _log.warning("callbacks.not_let_go", count=len(held), error=str(error))

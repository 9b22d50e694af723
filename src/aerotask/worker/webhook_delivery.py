"""Webhook delivery loop of a worker."""

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

MAX_DELIVERIES = 16
# Otherwise one user's slow receiver, or one slow host that many users share, delays all others.
MAX_DELIVERIES_PER_USER = 4
MAX_DELIVERIES_PER_HOST = 4
# Added to the timeout of a request, for the permission check before it and the record after it; then the claim
# expires and another worker may try.
CLAIM_SLACK_S = 15.0
ACCESS_REVOKED = PostResult(None, "The task's owner may no longer read the dataset.")

_chance = SystemRandom().random
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class WebhookDelivery:
    """Delivers webhooks, several at once. Each is claimed by one worker at a time and delivered at least once."""

    db: Database
    access: PermissionService
    webhooks: WebhookService
    client: GuardedClient
    poll_s: float
    _deliveries: dict[asyncio.Task[None], ClaimedWebhook] = field(default_factory=dict)
    wakeup: WakeupEvent = field(default_factory=WakeupEvent)
    """Set when there may be a webhook to deliver."""

    async def run(self) -> None:
        """Deliver until cancelled; then release the unfinished ones to other workers."""
        try:
            while True:
                free = len(self._deliveries) < MAX_DELIVERIES
                message = await tolerate("callbacks.delayed", self._claim_next()) if free else None
                if message is None:
                    await self.wakeup.wait(self.poll_s)
                else:
                    self._start(message)
        finally:
            await self._release()

    async def _claim_next(self) -> ClaimedWebhook | None:
        users = Counter(message.user_id for message in self._deliveries.values())
        hosts = Counter(message.host for message in self._deliveries.values())
        async with self.db.begin() as connection:
            return await webhooks.claim_next(
                connection,
                ttl_s=self.client.timeout_s + CLAIM_SLACK_S,
                without_users=[user for user, n in users.items() if user and n >= MAX_DELIVERIES_PER_USER],
                without_hosts=[host for host, n in hosts.items() if n >= MAX_DELIVERIES_PER_HOST],
            )

    def _start(self, message: ClaimedWebhook) -> None:
        delivery = asyncio.create_task(self._deliver(message), name=f"callback {message.id}")
        self._deliveries[delivery] = message
        delivery.add_done_callback(self._ended)

    def _ended(self, delivery: asyncio.Task[None]) -> None:
        message = self._deliveries.pop(delivery)
        self.wakeup.set()
        error = None if delivery.cancelled() else delivery.exception()
        if error is not None:
            # It is tried again when our claim expires; the error must not end the worker.
            _log.error("callback.broken", callback_id=str(message.id), exc_info=error)

    async def _deliver(self, message: ClaimedWebhook) -> None:
        sent_at, begun = datetime.now(UTC), time.monotonic()
        outcome, next_step = await self._send(message, sent_at)
        attempt = {
            "at": sent_at.isoformat().replace("+00:00", "Z"),
            "status": outcome.status,
            "error": outcome.error,
            "durationMs": round(1000 * (time.monotonic() - begun)),
        }
        await outlast(lambda: self._record(message, attempt, next_step), give_up_after_s=OUTAGE_S)
        _log.info(
            "callback.tried",
            callback_id=str(message.id),
            task_id=str(message.task_id),
            host=message.host,
            status=outcome.status,
            error=outcome.error,
            now=next_step.state,
        )

    async def _send(self, message: ClaimedWebhook, sent_at: datetime) -> tuple[PostResult, NextStep]:
        user_id = message.user_id
        if user_id is None or not await self._may_read(user_id, message.dataset_id):
            return ACCESS_REVOKED, NextStep(WebhookState.GIVEN_UP)
        try:
            # Only parsed here: the client checks the addresses that it connects to.
            url = check_url(message.url, allow_private=True)
        except InvalidInput as error:  # accepted before the rules became stricter
            return PostResult(None, error.message), NextStep(WebhookState.GIVEN_UP)
        headers = {
            "User-Agent": f"aerotask/{__version__}",
            "Content-Type": "application/json",
            **self.webhooks.signing_key_of(user_id).headers(message.id, sent_at, message.body),
        }
        outcome = await self.client.post(url, headers, message.body)
        return outcome, after_attempt(status=outcome.status, tries=message.tries + 1, chance=_chance())

    async def _may_read(self, user_id: UserId, dataset_id: DatasetId) -> bool:
        """Whether the task's owner may still read the status that the webhook would send."""
        rights = await outlast(
            lambda: self.access.rights_of_user(user_id, dataset_id), give_up_after_s=CLAIM_SLACK_S
        )
        return Access.READ in rights

    async def _record(self, message: ClaimedWebhook, attempt: Mapping[str, Any], next_step: NextStep) -> None:
        async with self.db.begin() as connection:
            await webhooks.record_attempt(connection, message, attempt, next_step)

    async def _release(self) -> None:
        claimed = dict(self._deliveries)
        await cancel_and_wait(*claimed)
        if not claimed:
            return
        try:
            async with self.db.begin() as connection:
                await webhooks.release(connection, list(claimed.values()))
        except Exception as error:
            if not is_outage(error):
                raise
            _log.warning("callbacks.not_released", count=len(claimed), error=str(error))

"""Webhooks about ended tasks: checks of their URLs, their messages, and their signing keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.access import Caller
from aerotask.domain.errors import Forbidden, InvalidInput
from aerotask.domain.ids import TaskId, UserId
from aerotask.domain.settings import WebhookSettings
from aerotask.domain.webhook_signatures import SigningKey, signing_key
from aerotask.net.addresses import check_url
from aerotask.representations.task_status import task_response
from aerotask.services.accounts.permissions import require_user
from aerotask.store.tasks import tasks, webhooks


@dataclass(frozen=True, slots=True)
class WebhookService:
    """Checks callback URLs and derives the signing keys of their owners."""

    secret_key: SecretStr
    settings: WebhookSettings

    def check(self, caller: Caller, url: str | None) -> None:
        """Check a callback URL.

        Raises:
            InvalidInput: it is malformed or its address isn't public, or the caller is anonymous.
        """
        if url is None:
            return
        if caller.user_id is None:
            raise InvalidInput(
                "A callbackUrl requires a signed-in user, whose key signs the messages.",
                code="callback-needs-user",
            )
        check_url(url, allow_private=self.settings.allow_private)

    def signing_key_of_caller(self, caller: Caller) -> SigningKey:
        """The key that signs the messages about the caller's tasks.

        Raises:
            Unauthenticated: the caller is anonymous.
            Forbidden: the caller's API key is read-only; with the signing key it could forge messages.
        """
        user_id = require_user(caller)
        if caller.read_only:
            raise Forbidden(
                "This API key is read-only; the signing secret requires a full one.", code="read-only-key"
            )
        return self.signing_key_of(user_id)

    def signing_key_of(self, user_id: UserId) -> SigningKey:
        """The key that signs the messages about the user's tasks."""
        return signing_key(self.secret_key.get_secret_value(), user_id)


async def enqueue_webhooks(connection: AsyncConnection, ended: Sequence[TaskId]) -> None:
    """Enqueue a message with its present status for each task that has a callback URL.

    Must be called at the end of the transaction that ends the tasks.
    """
    receivers = await webhooks.with_webhook(connection, ended) if ended else []
    for row in await tasks.find_all(connection, receivers) if receivers else []:
        if row.callback_url is not None:
            # This end has not been delivered yet, even if an earlier one was.
            status = task_response(replace(row, callback_completed=False))
            await webhooks.enqueue(
                connection,
                task_id=row.id,
                user_id=row.user_id,
                url=row.callback_url,
                body=status.model_dump_json(by_alias=True).encode(),
            )

"""Callbacks: which are taken on, what they say, and the key that signs them."""

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
    """Knows the rules for callback URLs and the keys of their owners."""

    secret_key: SecretStr
    settings: WebhookSettings

    def check(self, caller: Caller, url: str | None) -> None:
        """Refuse a callback URL that can't be called, or nobody's.

        Raises:
            InvalidInput: it is malformed or names an address that isn't public, or the caller is anonymous.
        """
        if url is None:
            return
        if caller.user_id is None:
            raise InvalidInput(
                "Sign in to be called back: messages are signed with your own key.",
                code="callback-needs-user",
            )
        check_url(url, allow_private=self.settings.allow_private)

    def key_of_caller(self, caller: Caller) -> SigningKey:
        """The key that signs the messages about the caller's tasks.

        Raises:
            Unauthenticated: nobody is signed in.
            Forbidden: the caller's key is for reading alone; with this one it could forge messages.
        """
        user_id = require_user(caller)
        if caller.read_only:
            raise Forbidden("This API key is for reading alone.", code="read-only-key")
        return self.key_of(user_id)

    def key_of(self, user_id: UserId) -> SigningKey:
        """The key that signs the messages about the user's tasks."""
        return signing_key(self.secret_key.get_secret_value(), user_id)


async def owe(connection: AsyncConnection, ended: Sequence[TaskId]) -> None:
    """Owe a message about each task to its callback URL, if it has one: its status as it is now.

    To be called at the end of the very transaction that ends the tasks.
    """
    owed = await webhooks.owed_among(connection, ended) if ended else []
    for row in await tasks.find_all(connection, owed) if owed else []:
        if row.callback_url is not None:
            # Of this end nobody has been told yet, even if the receiver knows of an earlier one.
            answer = task_response(replace(row, callback_completed=False))
            await webhooks.add(
                connection,
                task_id=row.id,
                user_id=row.user_id,
                url=row.callback_url,
                body=answer.model_dump_json(by_alias=True).encode(),
            )

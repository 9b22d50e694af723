"""Tokens for map clients, which can't send headers: they let somebody look at one dataset, or one task's result."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
from pydantic import SecretStr

from aerotask.domain.errors import Unauthenticated
from aerotask.domain.ids import DatasetId, TaskId, UserId

ALGORITHM = "HS256"
_AUDIENCE = "aerotask: viewing"
_PURPOSE = b"aerotask: signing key of viewing tokens"
_BROKEN = (jwt.InvalidTokenError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class TileScope:
    """On whose behalf, and what may be looked at: a task's result, or without a task everything in the dataset."""

    user_id: UserId
    epoch: int
    """The user's token epoch: what ends their sessions ends their viewing tokens."""
    key_id: UUID | None
    """The key by which it was made, with which it ends."""
    dataset_id: DatasetId
    task_id: TaskId | None = None

    def covers(self, dataset_id: DatasetId, task_id: TaskId | None) -> bool:
        """Whether the scope reaches what is to be looked at."""
        return self.dataset_id == dataset_id and self.task_id in {None, task_id}


@dataclass(frozen=True, slots=True)
class TileToken:
    """A token, and when it ends."""

    token: str
    expires_at: datetime


class TileTokens:
    """Makes and reads them. Their key is derived, so that nothing else that is signed here is ever taken for one."""

    def __init__(self, secret_key: SecretStr, *, ttl: timedelta) -> None:
        self._key = hmac.digest(secret_key.get_secret_value().encode(), _PURPOSE, hashlib.sha256)
        self._ttl = ttl

    def issue(self, scope: TileScope) -> TileToken:
        """A token of that scope."""
        expires_at = datetime.now(UTC) + self._ttl
        claims = {
            "aud": _AUDIENCE,
            "exp": expires_at,
            "sub": str(scope.user_id),
            "epoch": scope.epoch,
            "key": None if scope.key_id is None else str(scope.key_id),
            "dataset": str(scope.dataset_id),
            "task": None if scope.task_id is None else str(scope.task_id),
        }
        return TileToken(jwt.encode(claims, self._key, ALGORITHM), expires_at)

    def read(self, token: str) -> TileScope:
        """The scope of a token.

        Raises:
            Unauthenticated: it isn't one of ours, or has expired (`bad-credentials`).
        """
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["exp", "sub", "epoch", "dataset"]},
            )
            task, key = claims.get("task"), claims.get("key")
            return TileScope(
                UserId(UUID(claims["sub"])),
                int(claims["epoch"]),
                None if key is None else UUID(key),
                DatasetId(UUID(claims["dataset"])),
                None if task is None else TaskId(UUID(task)),
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated(
                "The viewing token has expired; ask for the TileJSON or a token again.",
                code="bad-credentials",
            ) from error
        except _BROKEN as error:
            raise Unauthenticated("The viewing token is not valid.", code="bad-credentials") from error

"""Tile tokens: give map clients, which can't send headers, Read on one dataset or one task's result."""

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
_INVALID_CLAIMS = (jwt.InvalidTokenError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class TileScope:
    """User on whose behalf the token acts, and the dataset or task result that it covers."""

    user_id: UserId
    epoch: int
    """The user's token epoch, so that ending the user's sessions revokes tile tokens too."""
    key_id: UUID | None
    """The API key that created the token, with whose end the token ends."""
    dataset_id: DatasetId
    task_id: TaskId | None = None

    def covers(self, dataset_id: DatasetId, task_id: TaskId | None) -> bool:
        """Whether the scope includes the dataset, or the task's result."""
        return self.dataset_id == dataset_id and self.task_id in {None, task_id}


@dataclass(frozen=True, slots=True)
class TileToken:
    """Encoded token with its expiry time."""

    token: str
    expires_at: datetime


class TileTokens:
    """Issues and verifies tile tokens, with a derived key so that no other signed token passes for one."""

    def __init__(self, secret_key: SecretStr, *, ttl: timedelta) -> None:
        self._key = hmac.digest(secret_key.get_secret_value().encode(), _PURPOSE, hashlib.sha256)
        self._ttl = ttl

    def issue(self, scope: TileScope) -> TileToken:
        """A new token for the scope."""
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
        """The scope of a valid token.

        Raises:
            Unauthenticated: the token is invalid or has expired (`bad-credentials`).
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
                "The tile token has expired; request the TileJSON or a token again.",
                code="bad-credentials",
            ) from error
        except _INVALID_CLAIMS as error:
            raise Unauthenticated("The tile token is not valid.", code="bad-credentials") from error

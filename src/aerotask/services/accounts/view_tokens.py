"""View tokens: give clients that can't send headers Read on one dataset, or on one task of it, for a short time."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
from pydantic import SecretStr

from aerotask.db.engine import Database
from aerotask.domain.access import ANONYMOUS, Caller
from aerotask.domain.errors import NotFound, Unauthenticated
from aerotask.domain.ids import DatasetId, TaskId, UserId
from aerotask.services.accounts.permissions import AccessibleDataset, PermissionService, require_user
from aerotask.store.accounts import api_keys, users

ALGORITHM = "HS256"
_AUDIENCE = "aerotask: viewing"
_PURPOSE = b"aerotask: signing key of viewing tokens"
_INVALID_CLAIMS = (jwt.InvalidTokenError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class ViewScope:
    """User on whose behalf the token acts, and the dataset or task that it covers."""

    user_id: UserId
    epoch: int
    """The user's token epoch, so that ending the user's sessions revokes view tokens too."""
    key_id: UUID | None
    """The API key that created the token, with whose end the token ends."""
    dataset_id: DatasetId
    task_id: TaskId | None = None

    def covers(self, dataset_id: DatasetId, task_id: TaskId | None) -> bool:
        """Whether the scope includes the dataset, or the task of it."""
        return self.dataset_id == dataset_id and self.task_id in {None, task_id}


@dataclass(frozen=True, slots=True)
class ViewToken:
    """Encoded token with its expiry time."""

    token: str
    expires_at: datetime


class ViewTokens:
    """Issues and verifies view tokens, with a derived key so that no other signed token passes for one."""

    def __init__(self, secret_key: SecretStr, *, ttl: timedelta) -> None:
        self._key = hmac.digest(secret_key.get_secret_value().encode(), _PURPOSE, hashlib.sha256)
        self._ttl = ttl

    def issue(self, scope: ViewScope) -> ViewToken:
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
        return ViewToken(jwt.encode(claims, self._key, ALGORITHM), expires_at)

    def read(self, token: str) -> ViewScope:
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
            return ViewScope(
                UserId(UUID(claims["sub"])),
                int(claims["epoch"]),
                None if key is None else UUID(key),
                DatasetId(UUID(claims["dataset"])),
                None if task is None else TaskId(UUID(task)),
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated(
                "The view token has expired; request the TileJSON or a token again.",
                code="bad-credentials",
            ) from error
        except _INVALID_CLAIMS as error:
            raise Unauthenticated("The view token is not valid.", code="bad-credentials") from error


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """Access by a view token, or by the caller's own identity if the token is invalid."""

    caller: Caller
    dataset: AccessibleDataset
    by_token: bool


@dataclass(frozen=True, slots=True)
class ViewTokenService:
    """Access by view tokens, with the present rights of the users on whose behalf they act."""

    db: Database
    access: PermissionService
    tokens: ViewTokens

    def issue(self, caller: Caller, dataset_id: DatasetId, task_id: TaskId | None) -> ViewToken:
        """A token on the caller's behalf, valid as long as the caller's present credentials.

        Raises:
            Unauthenticated: the caller is anonymous.
        """
        scope = ViewScope(require_user(caller), caller.epoch, caller.key_id, dataset_id, task_id)
        return self.tokens.issue(scope)

    def covers(self, token: str, dataset_id: DatasetId, task_id: TaskId | None) -> bool:
        """Whether the token is valid for the dataset, or the task of it."""
        try:
            return self.tokens.read(token).covers(dataset_id, task_id)
        except Unauthenticated:
            return False

    async def open(
        self, caller: Caller, token: str, org_slug: str, slug: str, task_id: TaskId | None
    ) -> TokenAccess:
        """The dataset as seen by the token's owner; an invalid token falls back to the caller's own identity.

        Raises:
            Unauthenticated, NotFound: as for a dataset without a token.
        """
        try:
            scope = self.tokens.read(token)
            owner = await self._owner(scope, caller.address)
        except Unauthenticated as error:
            return await self._without_token(caller, org_slug, slug, error.message)
        try:
            dataset = await self.access.dataset(owner, org_slug, slug)
        except NotFound:  # same response as for a dataset that the token doesn't cover
            dataset = None
        if dataset is None or not scope.covers(dataset.row.id, task_id):
            reason = "The view token is for another dataset or task, or its owner has lost the permission."
            return await self._without_token(caller, org_slug, slug, reason)
        return TokenAccess(owner, dataset, by_token=True)

    async def _without_token(self, caller: Caller, org_slug: str, slug: str, reason: str) -> TokenAccess:
        """Access by the caller's own identity; for an anonymous one, with the reason why the token was rejected."""
        if caller.anonymous:
            caller = replace(ANONYMOUS, rejected_credentials=reason, address=caller.address)
        return TokenAccess(caller, await self.access.dataset(caller, org_slug, slug), by_token=False)

    async def _owner(self, scope: ViewScope, address: str | None) -> Caller:
        async with self.db.read() as connection:
            user = await users.find(connection, scope.user_id)
            held = scope.key_id is None or await api_keys.is_valid(connection, scope.user_id, scope.key_id)
        if user is None or user.is_deactivated or user.token_epoch != scope.epoch or not held:
            raise Unauthenticated("The view token has been revoked.", code="bad-credentials")
        return Caller(
            user_id=user.id,
            user_name=user.user_name,
            is_admin=user.is_admin,
            read_only=True,
            address=address,
        )

"""API key routes: create, list and revoke the caller's keys."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Response
from pydantic import Field

from aerotask.api.deps import CallerDep, PlatformDep
from aerotask.api.http.errors import problems
from aerotask.api.http.schema import Body, Label
from aerotask.api.http.strict_json import StrictRoute
from aerotask.representations.base import ApiModel, Moment
from aerotask.store.accounts.api_keys import ApiKeyRow

router = APIRouter(prefix="/users/me/keys", tags=["users"], route_class=StrictRoute)


class NewApiKey(Body):
    """API key to create."""

    name: Label
    """A name that says what the key is for."""
    read_only: bool = False
    """Whether the key may only read; requests that change something get 403."""
    ttl_days: int = Field(90, ge=1, le=366)
    """Number of days until the key expires."""


class ApiKeyResponse(ApiModel):
    """API key as listed, without the key itself."""

    id: UUID
    name: str
    read_only: bool
    created_at: Moment
    expires_at: Moment
    last_used_at: Moment | None
    """Accurate to the minute."""


class NewApiKeyResponse(ApiKeyResponse):
    """API key that was just created, with the key itself."""

    key: str
    """The key; it is shown only in this response."""


@router.post("", status_code=201, responses=problems(400, 401, 403, 409, 413))
async def create_key(
    body: NewApiKey, caller: CallerDep, platform: PlatformDep, response: Response
) -> NewApiKeyResponse:
    """Create an API key, to be sent as `Authorization: Bearer <key>`; it is shown only in this response."""
    created = await platform.api_keys.create(
        caller, name=body.name, read_only=body.read_only, ttl_days=body.ttl_days
    )
    response.headers["Cache-Control"] = "no-store"
    return NewApiKeyResponse(**_key(created.row).model_dump(), key=created.key)


@router.get("", responses=problems(401))
async def list_keys(caller: CallerDep, platform: PlatformDep) -> list[ApiKeyResponse]:
    """List the caller's API keys, oldest first, including expired ones."""
    return [_key(row) for row in await platform.api_keys.list_own(caller)]


@router.delete("/{keyId}", status_code=204, responses=problems(400, 401, 403, 404))
async def revoke_key(
    key_id: Annotated[UUID, Path(alias="keyId", description="The key's id.")],
    caller: CallerDep,
    platform: PlatformDep,
) -> None:
    """Revoke one of the caller's API keys; it is invalid at once."""
    await platform.api_keys.revoke(caller, key_id)


def _key(row: ApiKeyRow) -> ApiKeyResponse:
    return ApiKeyResponse(
        id=row.id,
        name=row.name,
        read_only=row.read_only,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )

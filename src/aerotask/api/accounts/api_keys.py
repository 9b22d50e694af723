"""Routes: the caller's API keys."""

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
    """A key to make."""

    name: Label
    """What it is for."""
    read_only: bool = False
    """Whether it may only read; anything that changes is 403 then."""
    ttl_days: int = Field(90, ge=1, le=366)
    """For how many days it holds."""


class ApiKeyResponse(ApiModel):
    """A key as it is listed: without the key itself."""

    id: UUID
    name: str
    read_only: bool
    created_at: Moment
    expires_at: Moment
    last_used_at: Moment | None
    """To the minute."""


class NewApiKeyResponse(ApiKeyResponse):
    """A key that has just been made."""

    key: str
    """The key; it is shown this once."""


@router.post("", status_code=201, responses=problems(400, 401, 403, 409, 413))
async def create_key(
    body: NewApiKey, caller: CallerDep, platform: PlatformDep, response: Response
) -> NewApiKeyResponse:
    """Make an API key: send it as `Authorization: Bearer <key>`. It is shown in this answer and never again."""
    made = await platform.api_keys.create(
        caller, name=body.name, read_only=body.read_only, ttl_days=body.ttl_days
    )
    response.headers["Cache-Control"] = "no-store"
    return NewApiKeyResponse(**_key(made.row).model_dump(), key=made.key)


@router.get("", responses=problems(401))
async def list_keys(caller: CallerDep, platform: PlatformDep) -> list[ApiKeyResponse]:
    """The caller's keys, oldest first; expired ones too."""
    return [_key(row) for row in await platform.api_keys.list_own(caller)]


@router.delete("/{keyId}", status_code=204, responses=problems(400, 401, 403, 404))
async def revoke_key(
    key_id: Annotated[UUID, Path(alias="keyId", description="The key's id.")],
    caller: CallerDep,
    platform: PlatformDep,
) -> None:
    """Revoke a key of the caller's; it doesn't hold from now on."""
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

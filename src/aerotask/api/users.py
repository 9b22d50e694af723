"""Routes: signing in, and users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from aerotask.api.deps import CallerDep, PlatformDep
from aerotask.api.errors import problems
from aerotask.api.requests import StrictRoute
from aerotask.api.schemas import Credentials, NewPassword, NewUser, TokenAnswer, UserAnswer, UserRoles
from aerotask.domain.errors import FieldError, InvalidInput
from aerotask.services.accounts import Token
from aerotask.store.users import UserRow

router = APIRouter(prefix="/users", tags=["users"], route_class=StrictRoute)

ADMIN, DEACTIVATED = "admin", "deactivated"
_SCHEMA = Credentials.model_json_schema()
_JSON_OR_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _SCHEMA},
            "application/x-www-form-urlencoded": {"schema": _SCHEMA},
        },
    }
}


@router.post("/authenticate", responses=problems(400, 401, 413), openapi_extra=_JSON_OR_FORM)
async def authenticate(request: Request, platform: PlatformDep) -> TokenAnswer:
    """Sign in with a name and a password, as JSON or as a form; the answer holds a bearer token."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = dict(await request.form()) if "form" in kind else await request.json()
    try:
        credentials = Credentials.model_validate(raw)
    except ValidationError as error:
        faults = [FieldError("/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise InvalidInput(
            "Send a 'username' and a 'password'.", code="invalid-request", errors=faults
        ) from error
    return _token(await platform.accounts.sign_in(credentials.username, credentials.password))


@router.post("/authenticate/refresh", responses=problems(401))
async def refresh(caller: CallerDep, platform: PlatformDep) -> TokenAnswer:
    """A fresh token for a token that still holds."""
    return _token(await platform.accounts.refresh(caller))


@router.get("/me", responses=problems(401))
async def me(caller: CallerDep, platform: PlatformDep) -> UserAnswer:
    """The signed-in user."""
    return _user(await platform.accounts.me(caller))


@router.put("/me/password", status_code=204, responses=problems(400, 401, 413))
async def change_password(body: NewPassword, caller: CallerDep, platform: PlatformDep) -> None:
    """Replace the caller's own password."""
    await platform.accounts.change_password(caller, old=body.old_password, new=body.new_password)


@router.get("", responses=problems(401, 403))
async def list_users(caller: CallerDep, platform: PlatformDep) -> list[UserAnswer]:
    """Every user; for administrators."""
    return [_user(row) for row in await platform.accounts.list_users(caller)]


@router.post("", status_code=201, responses=problems(400, 401, 403, 409, 413))
async def create_user(body: NewUser, caller: CallerDep, platform: PlatformDep) -> UserAnswer:
    """Add a user; for administrators."""
    roles = _roles(body.roles)
    row = await platform.accounts.create_user(
        caller,
        user_name=body.user_name,
        password=body.password,
        email=body.email,
        is_admin=ADMIN in roles,
    )
    if DEACTIVATED in roles:
        row = await platform.accounts.set_roles(
            caller, row.user_name, is_admin=ADMIN in roles, is_deactivated=True
        )
    return _user(row)


@router.put("/{userName}", responses=problems(400, 401, 403, 404, 413))
async def set_roles(
    userName: str,  # noqa: N803  the contract's name
    body: UserRoles,
    caller: CallerDep,
    platform: PlatformDep,
) -> UserAnswer:
    """Set a user's roles; for administrators. A deactivated user's tokens are void at once."""
    roles = _roles(body.roles)
    return _user(
        await platform.accounts.set_roles(
            caller, userName, is_admin=ADMIN in roles, is_deactivated=DEACTIVATED in roles
        )
    )


def _roles(named: Sequence[str]) -> set[str]:
    unknown = set(named) - {ADMIN, DEACTIVATED}
    if unknown:
        raise InvalidInput(
            f"There is no role '{min(unknown)[:64]}'; there are {ADMIN} and {DEACTIVATED}.",
            code="unknown-role",
        )
    return set(named)


def _user(row: UserRow) -> UserAnswer:
    flags = {ADMIN: row.is_admin, DEACTIVATED: row.is_deactivated}
    return UserAnswer(
        user_name=row.user_name,
        email=row.email,
        roles=[role for role, held in flags.items() if held],
        created_at=row.created_at,
    )


def _token(token: Token) -> TokenAnswer:
    return TokenAnswer(username=token.user_name, token=token.token, expires=token.expires_at)

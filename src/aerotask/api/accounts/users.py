"""User routes: login, sessions, passwords and user administration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import ValidationError

from aerotask.api.accounts.schemas import (
    Login,
    NewPassword,
    NewUser,
    TokenResponse,
    UserFields,
    UserResponse,
)
from aerotask.api.deps import AnonymousDep, CallerDep, PlatformDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain.errors import FieldError, InvalidInput
from aerotask.services.accounts.tokens import Token
from aerotask.services.accounts.users import UserChange
from aerotask.store.accounts.users import UserRow

router = APIRouter(prefix="/users", tags=["users"], route_class=StrictRoute)

UserName = Annotated[str, Path(alias="userName", max_length=128, description="The user's name.")]
ADMIN, DEACTIVATED = "admin", "deactivated"
_LOGIN_SCHEMA = Login.model_json_schema()
_JSON_OR_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _LOGIN_SCHEMA},
            "application/x-www-form-urlencoded": {"schema": _LOGIN_SCHEMA},
        },
    }
}


@router.post("/authenticate", responses=problems(400, 401, 413, 429), openapi_extra=_JSON_OR_FORM)
async def authenticate(
    request: Request, caller: AnonymousDep, platform: PlatformDep, response: Response
) -> TokenResponse:
    """Log in with user name and password, as JSON or as a form; the response contains a bearer token."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = dict(await request.form()) if "form" in media_type else await request.json()
    try:
        login = Login.model_validate(raw)
    except ValidationError as error:
        errors = [FieldError("/" + "/".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise InvalidInput(
            "Send a 'username' and a 'password'.", code="invalid-request", errors=errors
        ) from error
    token = await platform.login.sign_in(caller, login.username, login.password)
    return _token(token, response)


@router.post("/authenticate/refresh", responses=problems(401, 403))
async def refresh(caller: CallerDep, platform: PlatformDep, response: Response) -> TokenResponse:
    """Exchange a valid token for a new one."""
    return _token(await platform.login.refresh(caller), response)


@router.post("/me/sign-out", status_code=204, responses=problems(401, 403))
async def sign_out_everywhere(caller: CallerDep, platform: PlatformDep) -> None:
    """Revoke every token of the caller, including this one; API keys stay valid."""
    await platform.login.sign_out_everywhere(caller)


@router.get("/me", responses=problems(401))
async def me(caller: CallerDep, platform: PlatformDep) -> UserResponse:
    """Get the logged-in user."""
    return _user(await platform.users.me(caller))


@router.put("/me/password", responses=problems(400, 401, 403, 413, 429))
async def change_password(
    body: NewPassword, caller: CallerDep, platform: PlatformDep, response: Response
) -> TokenResponse:
    """Change the caller's own password; all earlier tokens are revoked, and the response contains a new one."""
    token = await platform.login.change_password(caller, old=body.old_password, new=body.new_password)
    return _token(token, response)


@router.get("", responses=problems(401, 403))
async def list_users(caller: CallerDep, platform: PlatformDep) -> list[UserResponse]:
    """List all users; for administrators."""
    return [_user(row) for row in await platform.users.list_users(caller)]


@router.post("", status_code=201, responses=problems(400, 401, 403, 409, 413, 429))
async def create_user(body: NewUser, caller: CallerDep, platform: PlatformDep) -> UserResponse:
    """Create a user; for administrators."""
    roles = _roles(body.roles)
    row = await platform.users.create_user(
        caller,
        user_name=body.user_name,
        password=body.password,
        email=body.email,
        is_admin=ADMIN in roles,
        is_deactivated=DEACTIVATED in roles,
    )
    return _user(row)


@router.put("/{userName}", responses=problems(400, 401, 403, 404, 409, 413, 429))
async def change_user(
    user_name: UserName, body: UserFields, caller: CallerDep, platform: PlatformDep
) -> UserResponse:
    """Change a user; for administrators. Deactivation revokes the user's tokens and API keys at once."""
    roles = _roles(body.roles)
    change = UserChange(
        is_admin=ADMIN in roles,
        is_deactivated=DEACTIVATED in roles,
        password=body.password,
        subject=body.subject,
    )
    return _user(await platform.users.change_user(caller, user_name, change))


@router.delete("/{userName}", status_code=204, responses=problems(400, 401, 403, 404))
async def delete_user(user_name: UserName, caller: CallerDep, platform: PlatformDep) -> None:
    """Delete a user with their tokens and API keys; for administrators. What they own stays."""
    await platform.users.delete_user(caller, user_name)


def _roles(names: Sequence[str]) -> set[str]:
    unknown = set(names) - {ADMIN, DEACTIVATED}
    if unknown:
        raise InvalidInput(
            f"There is no role '{min(unknown)[:64]}'; use '{ADMIN}' or '{DEACTIVATED}'.",
            code="unknown-role",
        )
    return set(names)


def _user(row: UserRow) -> UserResponse:
    flags = {ADMIN: row.is_admin, DEACTIVATED: row.is_deactivated}
    return UserResponse(
        user_name=row.user_name,
        email=row.email,
        roles=[role for role, held in flags.items() if held],
        created_at=row.created_at,
        subject=row.subject,
    )


def _token(token: Token, response: Response) -> TokenResponse:
    response.headers["Cache-Control"] = "no-store"
    return TokenResponse(username=token.user_name, token=token.token, expires=token.expires_at)

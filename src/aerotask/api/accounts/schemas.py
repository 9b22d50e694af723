"""Request and response schemas for users, login and passwords."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aerotask.api.http.schema import Body, Printable
from aerotask.representations.base import ApiModel, Moment


class Login(Body):
    """Login with user name and password."""

    username: Annotated[str, Field(max_length=128), Printable]
    password: str = Field(max_length=1024)


class TokenResponse(ApiModel):
    """Bearer token of a login."""

    username: str
    token: str
    expires: Moment


class NewUser(Body):
    """User to create."""

    user_name: str = Field(max_length=128)
    password: str = Field(max_length=1024)
    email: Annotated[str, Field(max_length=320), Printable] | None = None
    roles: list[str] = Field(default_factory=list, max_length=8)
    """Any of `admin`, `deactivated`."""


class UserFields(Body):
    """Roles and other fields of a user to change."""

    roles: list[str] = Field(max_length=8)
    """Any of `admin`, `deactivated`."""
    password: str | None = Field(None, max_length=1024)
    """A new password; it ends the user's sessions."""
    subject: Annotated[str, Field(max_length=255), Printable] | None = None
    """The user's subject at the external OpenID Connect provider; an empty string removes it."""


class NewPassword(Body):
    """Change of the caller's own password."""

    old_password: str = Field(max_length=1024)
    new_password: str = Field(max_length=1024)


class UserResponse(ApiModel):
    """User with roles."""

    user_name: str
    email: str | None
    roles: list[str]
    created_at: Moment
    subject: str | None
    """The user's subject at the external OpenID Connect provider."""

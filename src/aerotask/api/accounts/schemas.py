"""Bodies and answers about users and their sessions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aerotask.api.http.schema import Body, Printable
from aerotask.representations.base import ApiModel, Moment


class Login(Body):
    """A sign-in."""

    username: Annotated[str, Field(max_length=128), Printable]
    password: str = Field(max_length=1024)


class TokenResponse(ApiModel):
    """A bearer token."""

    username: str
    token: str
    expires: Moment


class NewUser(Body):
    """A user to add."""

    user_name: str = Field(max_length=128)
    password: str = Field(max_length=1024)
    email: Annotated[str, Field(max_length=320), Printable] | None = None
    roles: list[str] = Field(default_factory=list, max_length=8)
    """Any of `admin`, `deactivated`."""


class UserFields(Body):
    """What a user may do from now on, and what else is to change."""

    roles: list[str] = Field(max_length=8)
    """Any of `admin`, `deactivated`."""
    password: str | None = Field(None, max_length=1024)
    """A new password; ends the user's sessions."""
    subject: Annotated[str, Field(max_length=255), Printable] | None = None
    """Who they are for the external provider; an empty text for nobody."""


class NewPassword(Body):
    """A change of the caller's own password."""

    old_password: str = Field(max_length=1024)
    new_password: str = Field(max_length=1024)


class UserResponse(ApiModel):
    """A user."""

    user_name: str
    email: str | None
    roles: list[str]
    created_at: Moment
    subject: str | None
    """Who they are for the external provider."""

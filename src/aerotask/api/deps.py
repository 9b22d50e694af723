"""What routes ask for: the platform, the caller, and the parts of an address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, TypedDict
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from aerotask.domain.access import ANONYMOUS, Access, Caller
from aerotask.domain.errors import Forbidden
from aerotask.domain.ids import TaskId, UserId
from aerotask.services.accounts.permissions import Grant, Reauthenticate
from aerotask.services.accounts.principal import Presented
from aerotask.services.tasks.watch import Watcher
from aerotask.wiring import Platform

_BEARER = HTTPBearer(auto_error=False, description="A token from `POST /users/authenticate`.")


async def _platform(request: Request) -> Platform:  # FastAPI would run a plain function in a thread
    return _platform_of(request)


def _platform_of(request: Request) -> Platform:
    platform: Platform = request.app.state.platform
    return platform


PlatformDep = Annotated[Platform, Depends(_platform)]


async def _presented(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Presented:
    address = request.client.host if request.client else None
    if credentials is not None:
        who = await _platform_of(request).authentication.presented(credentials.credentials, address=address)
        if isinstance(who, Caller):  # a session of ours may change things
            raise_if_read_only(who, request)
        return who
    if "authorization" in request.headers:
        reason = "The Authorization header holds no bearer token; send 'Authorization: Bearer <token>'."
        return replace(ANONYMOUS, rejected_credentials=reason, address=address)
    return replace(ANONYMOUS, address=address)


CredentialsDep = Annotated[Presented, Depends(_presented)]
"""Who presents credentials; for routes whose first look at the database confirms a session on the way."""


async def _caller(platform: PlatformDep, who: CredentialsDep) -> Caller:
    return await platform.authentication.confirm(who)


_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Ends of addresses of routes that only read, although their method is POST.
_READING_ENDS = ("/search", "/view-tokens", "/validate", "/preview")


def raise_if_read_only(caller: Caller, request: Request) -> None:
    """Let a key that is for reading alone change nothing, whichever route it is presented to.

    Raises:
        Forbidden: it would.
    """
    if not caller.read_only or request.method in _READING_METHODS:
        return
    template = getattr(request.scope.get("route"), "path", "")
    if not template.endswith(_READING_ENDS):
        raise Forbidden("This API key is for reading alone.", code="read-only-key")


async def _somebody(request: Request) -> Caller:
    return replace(ANONYMOUS, address=request.client.host if request.client else None)


CallerDep = Annotated[Caller, Depends(_caller)]
AddressDep = Annotated[Caller, Depends(_somebody)]
"""An anonymous caller, who brings no credentials but the ones in the body."""
OrgSlug = Annotated[str, Path(alias="orgSlug", description="The organization's slug.", max_length=128)]
DsSlug = Annotated[str, Path(alias="dsSlug", description="The dataset's slug.", max_length=128)]


@dataclass(frozen=True, slots=True)
class DatasetContext:
    """Who asks, and for which dataset."""

    platform: Platform
    caller: Caller
    ask: Reauthenticate
    """Finds out anew who asks, since a body may take hours."""
    org: str
    slug: str

    @property
    def address(self) -> str:
        """The dataset's own address."""
        return f"/orgs/{self.org}/ds/{self.slug}"

    async def permit(self, to: Access) -> Grant:
        """The caller's right to do that to the dataset; asked for before a body is read."""
        dataset = await self.platform.access.dataset(self.caller, self.org, self.slug, to=to)
        return Grant(self.platform.access, self.ask, dataset.row.id, to)


async def _place(
    request: Request,
    platform: PlatformDep,
    caller: CallerDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    org: OrgSlug,
    slug: DsSlug,
) -> DatasetContext:
    async def ask() -> Caller:
        return await platform.authentication.confirm(await _presented(request, credentials))

    return DatasetContext(platform, caller, ask, org, slug)


DatasetCtx = Annotated[DatasetContext, Depends(_place)]
TaskIdPath = Annotated[UUID, Path(alias="taskId", description="The task's id.")]
Tag = Annotated[str | None, Query(max_length=64, description="A tag that the tasks must have.")]
UserRef = Annotated[str | None, Query(alias="userId", max_length=128, description="The owner's name or id.")]


async def _follower(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    org: OrgSlug,
    slug: DsSlug,
    task_id: TaskIdPath,
) -> Watcher:
    return Watcher(partial(_presented, request, credentials), org, slug, TaskId(task_id))


WatcherDep = Annotated[Watcher, Depends(_follower)]
Skip = Annotated[int, Query(ge=0, le=2**31 - 1, description="How many to leave out at the beginning.")]
Take = Annotated[int, Query(description="How many to answer; clamped to 1–200.")]


class OwnerFilter(TypedDict, total=False):
    """The part of a filter that names an owner."""

    owner: str
    owner_id: UserId


def by_owner(ref: str | None) -> OwnerFilter:
    """What a user's name or id asks for."""
    if ref is None:
        return {}
    try:
        return {"owner_id": UserId(UUID(ref))}
    except ValueError:
        return {"owner": ref}

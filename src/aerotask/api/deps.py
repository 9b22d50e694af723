"""Route dependencies: platform, credentials, caller, dataset context and shared parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, TypedDict
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from aerotask.api.http.cross_origin import mark_secret_address
from aerotask.domain.access import ANONYMOUS, Access, Caller
from aerotask.domain.errors import Forbidden, InvalidInput
from aerotask.domain.ids import TaskId, UserId
from aerotask.services.accounts.permissions import Grant, Reauthenticate
from aerotask.services.accounts.tokens import UnverifiedPrincipal
from aerotask.services.tasks.watch import Watcher
from aerotask.wiring import Platform

BEARER = HTTPBearer(auto_error=False, description="A token from `POST /users/authenticate`.")


async def _platform(request: Request) -> Platform:  # FastAPI would run a plain function in a thread
    return _platform_of(request)


def _platform_of(request: Request) -> Platform:
    platform: Platform = request.app.state.platform
    return platform


PlatformDep = Annotated[Platform, Depends(_platform)]


async def _principal(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
) -> UnverifiedPrincipal:
    address = request.client.host if request.client else None
    if credentials is not None:
        authentication = _platform_of(request).authentication
        principal = await authentication.authenticate(credentials.credentials, address=address)
        if isinstance(principal, Caller):  # sessions are never read-only
            raise_if_read_only(principal, request)
        return principal
    if "authorization" in request.headers:
        reason = "The Authorization header has no bearer token; send 'Authorization: Bearer <token>'."
        return replace(ANONYMOUS, rejected_credentials=reason, address=address)
    return replace(ANONYMOUS, address=address)


CredentialsDep = Annotated[UnverifiedPrincipal, Depends(_principal)]
"""The unverified principal, for routes whose first database query verifies the session as well."""


async def _caller(platform: PlatformDep, principal: CredentialsDep) -> Caller:
    return await platform.authentication.verify(principal)


_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Ends of addresses of routes that only read, although their method is POST.
READING_ENDS = ("/search", "/view-tokens", "/validate", "/preview")


def raise_if_read_only(caller: Caller, request: Request) -> None:
    """Rejects requests that change something with a read-only API key.

    Raises:
        Forbidden: the key is read-only (`read-only-key`).
    """
    if not caller.read_only or request.method in _READING_METHODS:
        return
    template = getattr(request.scope.get("route"), "path", "")
    if not template.endswith(READING_ENDS):
        raise Forbidden("This API key is read-only; use one that may write.", code="read-only-key")


async def _anonymous(request: Request) -> Caller:
    return replace(ANONYMOUS, address=request.client.host if request.client else None)


CallerDep = Annotated[Caller, Depends(_caller)]
AnonymousDep = Annotated[Caller, Depends(_anonymous)]
"""An anonymous caller with their address, for routes whose credentials are in the body."""
OrgSlug = Annotated[str, Path(alias="orgSlug", description="The organization's slug.", max_length=128)]
DsSlug = Annotated[str, Path(alias="dsSlug", description="The dataset's slug.", max_length=128)]


@dataclass(frozen=True, slots=True)
class DatasetContext:
    """Request context of dataset routes: caller, organization and dataset slug."""

    platform: Platform
    caller: Caller
    reauthenticate: Reauthenticate
    """Verifies the credentials again, since reading a body may take hours."""
    org: str
    slug: str
    link_address: str | None = None
    """The URL path of the link that the request came through."""

    @property
    def address(self) -> str:
        """The dataset's URL path, or that of the link to it."""
        return self.link_address or f"/orgs/{self.org}/ds/{self.slug}"

    async def authorize(self, access: Access) -> Grant:
        """Checks the caller's right before a body is read; the grant can check it again afterwards."""
        dataset = await self.platform.access.dataset(self.caller, self.org, self.slug, to=access)
        return Grant(self.platform.access, self.reauthenticate, dataset.row.id, access)


async def _dataset_context(
    request: Request,
    platform: PlatformDep,
    caller: CallerDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    org: OrgSlug,
    slug: DsSlug,
) -> DatasetContext:
    async def reauthenticate() -> Caller:
        return await platform.authentication.verify(await _principal(request, credentials))

    return DatasetContext(platform, caller, reauthenticate, org, slug)


DatasetCtx = Annotated[DatasetContext, Depends(_dataset_context)]
TaskIdPath = Annotated[UUID, Path(alias="taskId", description="The task's id.")]
FileName = Annotated[str, Path(alias="fileName", max_length=255, description="The file's name.")]
ViewTokenQuery = Annotated[
    str | None,
    Query(alias="token", max_length=2048, description="A view token, for clients that can't send headers."),
]


async def _view_context(request: Request, ctx: DatasetCtx, token: ViewTokenQuery = None) -> DatasetContext:
    if token is None:
        return ctx
    caller = await _viewer(request, ctx.platform, ctx.caller, token, ctx.org, ctx.slug)
    return replace(ctx, caller=caller)


ViewCtx = Annotated[DatasetContext, Depends(_view_context)]
"""As `DatasetCtx`, for routes that a view token opens: the caller is the token's owner if it is valid here."""


async def _viewer(
    request: Request, platform: Platform, caller: Caller, token: str, org: str, slug: str
) -> Caller:
    task_id = request.path_params.get("taskId")
    access = await platform.view_tokens.open(
        caller, token, org, slug, None if task_id is None else TaskId(_uuid(task_id))
    )
    if access.by_token:
        mark_secret_address(request)
    return access.caller


def _uuid(text: str) -> UUID:
    """The id in a URL path.

    Raises:
        InvalidInput: it is no UUID.
    """
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput("The task's id is not a UUID.", code="invalid-request") from error


Tag = Annotated[str | None, Query(max_length=64, description="A tag that the tasks must have.")]
UserRef = Annotated[str | None, Query(alias="userId", max_length=128, description="The owner's name or id.")]


async def _watcher(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    org: OrgSlug,
    slug: DsSlug,
    task_id: TaskIdPath,
) -> Watcher:
    return Watcher(partial(_principal, request, credentials), org, slug, TaskId(task_id))


async def _watcher_anywhere(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    task_id: TaskIdPath,
) -> Watcher:
    reauthenticate = partial(_principal, request, credentials)
    org_slug, slug = await _platform_of(request).tasks.find_dataset(await reauthenticate(), TaskId(task_id))
    return Watcher(reauthenticate, org_slug, slug, TaskId(task_id))


async def _view_watcher(
    request: Request,
    platform: PlatformDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    watcher: Annotated[Watcher, Depends(_watcher)],
    token: ViewTokenQuery = None,
) -> Watcher:
    if token is None:
        return watcher

    async def reauthenticate() -> Caller:
        caller = await platform.authentication.verify(await _principal(request, credentials))
        return await _viewer(request, platform, caller, token, watcher.org_slug, watcher.slug)

    await reauthenticate()  # marks the request before its response begins
    return replace(watcher, reauthenticate=reauthenticate)


WatcherDep = Annotated[Watcher, Depends(_watcher)]
ViewWatcherDep = Annotated[Watcher, Depends(_view_watcher)]
"""As `WatcherDep`, for routes that a view token opens."""
WatcherAnywhereDep = Annotated[Watcher, Depends(_watcher_anywhere)]
"""A watcher of a task by its id alone."""
Skip = Annotated[int, Query(ge=0, le=2**31 - 1, description="How many items to skip.")]
Take = Annotated[int, Query(description="How many items to return; clamped to 1–200.")]


class OwnerFilter(TypedDict, total=False):
    """Keyword arguments of a filter by owner."""

    owner: str
    owner_id: UserId


def owner_filter(ref: str | None) -> OwnerFilter:
    """The filter for a user's name or id."""
    if ref is None:
        return {}
    try:
        return {"owner_id": UserId(UUID(ref))}
    except ValueError:
        return {"owner": ref}

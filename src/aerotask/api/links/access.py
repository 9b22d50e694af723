"""Access by a link in the address: what its routes depend on, and how they are registered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Request

from aerotask.api.deps import DatasetContext, PlatformDep
from aerotask.api.http.cross_origin import mark_secret_address
from aerotask.domain.access import Caller, LinkScope
from aerotask.domain.ids import TaskId
from aerotask.services.datasets.links import OpenLink
from aerotask.services.tasks.watch import Watcher
from aerotask.services.tiles.tiles import TileClient
from aerotask.wiring import Platform

PREFIX = "/links/{link}"
_Route = TypeVar("_Route", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class LinkContext:
    """Request context of the routes behind a link; each says which part of the link's target it serves."""

    platform: Platform
    token: str
    address: str | None
    """The client's IP address."""
    link: OpenLink

    @property
    def tile_client(self) -> TileClient:
        """The client of tile routes."""
        return TileClient(self.link.caller, by_link=True)

    def entry(self, path: str, *, to: LinkScope) -> DatasetContext:
        """The dataset as the link's maker may read it, if the link gives that of the entry.

        Raises:
            InvalidPath, NotFound, Forbidden: as for `OpenLink.require_entry`.
        """
        self.link.require_entry(path, to=to)
        return self._dataset()

    def task(self, task_id: TaskId, *, to: LinkScope) -> DatasetContext:
        """As `entry`, for a task.

        Raises:
            NotFound, Forbidden: as for `OpenLink.require_task`.
        """
        self.link.require_task(task_id, to=to)
        return self._dataset()

    def watcher(self, task_id: TaskId) -> Watcher:
        """A client that watches the task as long as the link is valid.

        Raises:
            NotFound: as for `OpenLink.require_task`.
        """
        self.link.require_task(task_id, to=LinkScope.VIEW)

        async def reauthenticate() -> Caller:
            link = await self.platform.links.reopen(self.token, address=self.address)
            link.require_task(task_id, to=LinkScope.VIEW)
            return link.caller

        return Watcher(reauthenticate, self.link.dataset.org_slug, self.link.dataset.slug, task_id)

    def _dataset(self) -> DatasetContext:
        async def reauthenticate() -> Caller:
            return (await self.platform.links.reopen(self.token, address=self.address)).caller

        dataset = self.link.dataset
        return DatasetContext(
            self.platform,
            self.link.caller,
            reauthenticate,
            dataset.org_slug,
            dataset.slug,
            link_address=f"/links/{self.token}",
        )


async def _link_context(
    request: Request,
    platform: PlatformDep,
    token: Annotated[
        str,
        Path(alias="link", max_length=128, description="The link, as in the address that creating it gave."),
    ],
) -> LinkContext:
    address = request.client.host if request.client else None
    link = await platform.links.open(token, address=address)
    mark_secret_address(request)
    return LinkContext(platform, token, address, link)


LinkCtx = Annotated[LinkContext, Depends(_link_context)]


def reading(router: APIRouter, path: str, **options: Any) -> Callable[[_Route], _Route]:
    """Registers a route for GET, and for HEAD, which isn't described."""

    def register(endpoint: _Route) -> _Route:
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
        router.add_api_route(path, endpoint, **options)
        return endpoint

    return register

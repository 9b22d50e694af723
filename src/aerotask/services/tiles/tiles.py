"""Tile service: map tiles of rasters and results, thumbnails, previews, and tokens for map clients."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller, Visibility
from aerotask.domain.errors import InvalidInput, NotFound
from aerotask.domain.ids import DatasetId, TaskId
from aerotask.metadata.file_types import GEOJSON_SUFFIXES, IMAGE_TYPES, EntryType, suffix_of
from aerotask.registry import Registry
from aerotask.sdk import Limits
from aerotask.sdk.tool import has_preview
from aerotask.services.accounts.login_throttle import throttled_address
from aerotask.services.accounts.permissions import AccessibleDataset, PermissionService, require_user
from aerotask.services.accounts.view_tokens import ViewToken, ViewTokenService
from aerotask.services.tasks.planning import plan_run
from aerotask.services.tasks.tasks import TaskService
from aerotask.services.tiles.source import content_of, find_raster
from aerotask.store.datasets.entries import EntryRow
from aerotask.tiles.jobs import ThumbnailKind
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.renderer import (
    RasterSource,
    Renderer,
    RenderSource,
    thumbnail_digest,
    tile_digest,
)
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex


@dataclass(frozen=True, slots=True)
class TileClient:
    """Client of the tile routes: the caller, and the view token of the URL, if any."""

    caller: Caller
    token: str | None = None
    by_link: bool = False
    """The caller is the maker of a link, which somebody else may be using."""

    @property
    def queue_key(self) -> str:
        """The fairness key: the caller's user or address, whatever the token or link."""
        return queue_key_of(replace(self.caller, user_id=None) if self.by_link else self.caller)


@dataclass(frozen=True, slots=True)
class TileSource:
    """Raster that the client may view."""

    name: str
    raster: RasterSource
    dataset_id: DatasetId
    allows_anonymous: bool
    """Whether no credentials are needed: the dataset is public or unlisted."""
    is_shared_cacheable: bool
    """Public dataset: responses may be stored by shared caches."""
    queue_key: str
    """The client's fairness key."""
    is_final: bool
    """Whether the tiles stay as they are; not while the raster's overviews are being made."""

    @property
    def version(self) -> str:
        """Version of the content, for cache-busting URLs."""
        contents = (source.sha256[:8] for source in (self.raster.original, *self.raster.drawn_from))
        side = self.raster.side
        beside = "" if side is None else hashlib.sha256(str(side.to_json()).encode()).hexdigest()[:8]
        return "".join(contents) + beside


@dataclass(frozen=True, slots=True)
class PendingImage:
    """Image with a known digest that is rendered only if the client doesn't have it."""

    digest: str
    is_shared_cacheable: bool
    """Whether shared caches may store it."""
    render: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class TileService:
    """Tiles, thumbnails and previews of datasets; everything needs Read."""

    db: Database
    access: PermissionService
    tasks: TaskService
    registry: Registry
    limits: Limits
    renderer: Renderer
    tokens: ViewTokenService

    async def entry(self, client: TileClient, org_slug: str, slug: str, path: str) -> TileSource:
        """The raster at `path`.

        Raises:
            NotFound: there is no entry at the path.
            InvalidInput: the entry is a folder, or known not to be a raster.
        """
        target = paths.entry_path(path)
        dataset = await self._dataset(client, org_slug, slug, None)
        async with self.db.read() as connection:
            found = await find_raster(connection, dataset.row.id, target)
        row = found.row
        if row.indexed and row.type not in IMAGE_TYPES:
            message = row.properties.get("indexError", {}).get("message")
            raise InvalidInput(message or f"{paths.shown(row.path)} is not a raster.", code="not-a-raster")
        name = paths.base_name(row.path)
        return _tile_source(name, found.raster(), dataset, client, is_final=found.is_final)

    async def result(self, client: TileClient, org_slug: str, slug: str, task_id: TaskId) -> TileSource:
        """The raster result of a task.

        Raises:
            NotFound, Conflict, Gone: as for downloading the result.
        """
        dataset = await self._dataset(client, org_slug, slug, task_id)
        artifact = await self.tasks.artifact_in(dataset, task_id)
        content = RenderSource(artifact.blob_key, artifact.sha256, artifact.size_bytes)
        raster = RasterSource(content, content)
        return _tile_source(artifact.file_name, raster, dataset, client, is_final=True)

    async def render_info(self, source: TileSource, style: Style) -> RenderInfo:
        """The render info of the raster in a style.

        Raises:
            InvalidInput: the style doesn't fit the raster, or the raster has no georeference.
            Unavailable: too many jobs are waiting.
        """
        style.options()
        info = await self.renderer.render_info(source.raster, style, queue_key=source.queue_key)
        info.require_bounds()
        return info

    def tile(self, source: TileSource, style: Style, tile: TileIndex, *, size_px: int) -> PendingImage:
        """A tile of the raster; rendering raises `NotFound` (`tile-outside`) outside the raster.

        Raises:
            InvalidInput: the tile index or the style is invalid.
        """
        style.options()
        if not tile.exists:
            raise InvalidInput(
                f"The tile matrix has no tile {tile.z}/{tile.x}/{tile.y}.", code="no-such-tile"
            )
        digest = tile_digest(source.raster, style, tile, size_px=size_px)
        render = partial(self._render_tile, source, style, tile, size_px=size_px)
        return PendingImage(digest, source.is_shared_cacheable, render)

    async def thumbnail(
        self, client: TileClient, org_slug: str, slug: str, path: str, *, size_px: int
    ) -> PendingImage:
        """A thumbnail of the entry at `path`.

        Raises:
            NotFound: there is no entry at the path.
            InvalidInput: the entry is a folder, or of a type without thumbnails (`no-thumbnail`).
        """
        target = paths.entry_path(path)
        dataset = await self._dataset(client, org_slug, slug, None)
        async with self.db.read() as connection:
            found = await find_raster(connection, dataset.row.id, target)
        kind = _thumbnail_kind(found.row)
        if kind is ThumbnailKind.PICTURE:
            raster = found.raster()
        else:
            content = content_of(found.row)
            raster = RasterSource(content, content)
        digest = thumbnail_digest(raster, kind, size_px=size_px)
        is_on_map = found.row.type == EntryType.GEO_RASTER
        thumbnail = self._map_thumbnail if is_on_map else self.renderer.thumbnail
        render = partial(thumbnail, raster, kind, size_px=size_px, queue_key=client.queue_key)
        return PendingImage(digest, _is_shared_cacheable(dataset), render)

    async def preview(  # noqa: PLR0913  where, what, and how large
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        tool_id: str,
        params: Mapping[str, Any],
        *,
        size_px: int,
    ) -> bytes:
        """A tool's preview of its result.

        Raises:
            InvalidInput: there is no such tool, or it refuses the params.
            NotFound: the tool draws no preview (`no-preview`).
        """
        dataset = await self.access.dataset(caller, org_slug, slug, to=Access.READ)
        tool = self.registry.get(tool_id)
        if not has_preview(tool):
            raise NotFound(f"Tool '{tool.id}' draws no preview.", code="no-preview")
        planned = await plan_run(self.db, dataset.row, tool, path=None, params=params, limits=self.limits)
        inputs = {item.path: RenderSource(item.blob_key, item.sha256) for item in planned.inputs}
        return await self.renderer.preview(
            tool, planned.params, inputs, size_px=size_px, queue_key=queue_key_of(caller)
        )

    async def issue_token(
        self, caller: Caller, org_slug: str, slug: str, *, task_id: TaskId | None
    ) -> ViewToken:
        """A view token for the dataset, or for one task of it only, on the caller's behalf.

        Raises:
            Unauthenticated: the caller is anonymous.
            NotFound: the dataset has no such task.
        """
        dataset = await self.access.dataset(caller, org_slug, slug)
        require_user(caller)
        if task_id is not None:
            await self.tasks.status_in(dataset, task_id)
        return self.tokens.issue(caller, dataset.row.id, task_id)

    def token_for(self, client: TileClient, source: TileSource, *, task_id: TaskId | None) -> str | None:
        """The token for the raster's tile URLs; None if anonymous access is allowed, or they contain a link."""
        if source.allows_anonymous or client.by_link:
            return None
        if client.token is not None and self.tokens.covers(client.token, source.dataset_id, task_id):
            return client.token
        return self.tokens.issue(client.caller, source.dataset_id, task_id).token

    async def _render_tile(self, source: TileSource, style: Style, tile: TileIndex, *, size_px: int) -> bytes:
        info = await self.render_info(source, style)
        if not tile.intersects(info.require_bounds()):
            raise NotFound("The tile lies outside the raster.", code="tile-outside")
        return await self.renderer.tile(
            source.raster, info, style, tile, size_px=size_px, queue_key=source.queue_key
        )

    async def _map_thumbnail(
        self, raster: RasterSource, kind: ThumbnailKind, *, size_px: int, queue_key: str
    ) -> bytes:
        """A thumbnail with the value range of the tiles, which is found only once."""
        info = None
        with suppress(InvalidInput):  # it may lie outside of web maps
            info = await self.renderer.render_info(raster, Style(), queue_key=queue_key)
        return await self.renderer.thumbnail(raster, kind, info=info, size_px=size_px, queue_key=queue_key)

    async def _dataset(
        self, client: TileClient, org_slug: str, slug: str, task_id: TaskId | None
    ) -> AccessibleDataset:
        if client.token is None:
            return await self.access.dataset(client.caller, org_slug, slug)
        return (await self.tokens.open(client.caller, client.token, org_slug, slug, task_id)).dataset


def queue_key_of(caller: Caller) -> str:
    """The fairness key of a caller: the user, or the address of an anonymous caller."""
    return (
        f"address {throttled_address(caller.address)}" if caller.user_id is None else f"user {caller.user_id}"
    )


def _tile_source(
    name: str, raster: RasterSource, dataset: AccessibleDataset, client: TileClient, *, is_final: bool
) -> TileSource:
    shared = _is_shared_cacheable(dataset)
    return TileSource(
        name, raster, dataset.row.id, dataset.allows_anonymous, shared, client.queue_key, is_final
    )


def _is_shared_cacheable(dataset: AccessibleDataset) -> bool:
    return dataset.row.visibility is Visibility.PUBLIC


def _thumbnail_kind(row: EntryRow) -> ThumbnailKind:
    if suffix_of(row.path) == "heic":
        raise InvalidInput(
            "HEIC images have no thumbnails, since this installation has no HEIC decoder. Upload a JPEG version.",
            code="no-thumbnail",
        )
    if row.type in IMAGE_TYPES:
        return ThumbnailKind.PICTURE
    if row.type == EntryType.POINT_CLOUD:
        return ThumbnailKind.CLOUD
    if row.type == EntryType.VECTOR and suffix_of(row.path) in GEOJSON_SUFFIXES:
        return ThumbnailKind.GEOJSON
    raise InvalidInput(
        f"There is no thumbnail of {paths.shown(row.path)}; images, rasters, LAS or LAZ point clouds and GeoJSON "
        "have thumbnails.",
        code="no-thumbnail",
    )

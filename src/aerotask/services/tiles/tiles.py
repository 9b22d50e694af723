"""What can be looked at: map tiles of rasters and of results, thumbnails, previews, and the tokens for map clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import ANONYMOUS, Access, Caller, Visibility
from aerotask.domain.errors import InvalidInput, NotFound, Unauthenticated
from aerotask.domain.ids import DatasetId, TaskId
from aerotask.metadata.file_types import IMAGE_TYPES, EntryType, suffix_of
from aerotask.registry import Registry
from aerotask.sdk import Limits
from aerotask.sdk.tool import has_preview
from aerotask.services.accounts.login_throttle import throttled_address
from aerotask.services.accounts.permissions import AccessibleDataset, PermissionService, require_user
from aerotask.services.tasks.planning import plan_run
from aerotask.services.tasks.tasks import TaskService
from aerotask.services.tiles.source import content_of, find_raster, raster_of
from aerotask.services.tiles.tile_tokens import TileScope, TileToken, TileTokens
from aerotask.store.accounts import api_keys, users
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
    """Who looks: the caller, or on whose behalf the token in the address was made."""

    caller: Caller
    token: str | None = None

    @property
    def row(self) -> str:
        """In whose row they wait for pictures: their own, or that of their address, as with a token."""
        return waits_as(self.caller)


@dataclass(frozen=True, slots=True)
class TileSource:
    """A raster that the viewer may look at."""

    name: str
    raster: RasterSource
    dataset_id: DatasetId
    open_to_all: bool
    """Whether anybody may look at it, who knows of it."""
    shared: bool
    """Whether it is open to all for all to know of, so that caches between may keep it too."""
    row: str
    """In whose row who looks at it waits."""

    @property
    def version(self) -> str:
        """Another one whenever the content is another."""
        return f"{self.raster.source.sha256[:8]}{self.raster.drawn.sha256[:8]}"


@dataclass(frozen=True, slots=True)
class PendingImage:
    """A picture that is drawn when it is wanted; those who know the digest have it already."""

    digest: str
    shared: bool
    """Whether caches that several people share may keep it."""
    draw: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class TileService:
    """Looks at datasets; everything in it needs Read."""

    db: Database
    access: PermissionService
    tasks: TaskService
    registry: Registry
    limits: Limits
    renderer: Renderer
    tokens: TileTokens

    async def entry(self, viewer: TileClient, org_slug: str, slug: str, path: str) -> TileSource:
        """The raster at `path`.

        Raises:
            NotFound: there is nothing at the path.
            InvalidInput: it is a folder, or known to be no raster.
        """
        target = paths.entry_path(path)
        dataset = await self._dataset(viewer, org_slug, slug, None)
        async with self.db.read() as connection:
            row, cog = await find_raster(connection, dataset.row.id, target)
        if row.indexed and row.type not in IMAGE_TYPES:
            fault = row.properties.get("indexError", {}).get("message")
            raise InvalidInput(fault or f"{paths.shown(row.path)} is no raster.", code="not-a-raster")
        return _viewed(paths.base_name(row.path), raster_of(row, cog), dataset, viewer)

    async def result(self, viewer: TileClient, org_slug: str, slug: str, task_id: TaskId) -> TileSource:
        """The raster that a task made.

        Raises:
            NotFound, Conflict, Gone: as for downloading it.
        """
        dataset = await self._dataset(viewer, org_slug, slug, task_id)
        artifact = await self.tasks.artifact_in(dataset, task_id)
        content = RenderSource(artifact.blob_key, artifact.sha256)
        raster = RasterSource(source=content, drawn=content)
        return _viewed(artifact.file_name, raster, dataset, viewer)

    async def look(self, viewed: TileSource, style: Style) -> RenderInfo:
        """What a map client has to know of the raster in that style.

        Raises:
            InvalidInput: it can't be shown so, or not on a map.
            Unavailable: too much is being drawn.
        """
        style.options()
        look = await self.renderer.look(viewed.raster, style, caller=viewed.row)
        look.place()
        return look

    def tile(self, viewed: TileSource, style: Style, at: TileIndex, *, size_px: int) -> PendingImage:
        """A tile of the raster; drawing it raises `NotFound` (`tile-outside`) where the raster isn't.

        Raises:
            InvalidInput: there is no such tile, or no such style.
        """
        style.options()
        if not at.exists:
            raise InvalidInput(f"The grid has no tile {at.z}/{at.x}/{at.y}.", code="no-such-tile")
        digest = tile_digest(viewed.raster, style, at, size_px=size_px)
        draw = partial(self._draw_tile, viewed, style, at, size_px=size_px)
        return PendingImage(digest, viewed.shared, draw)

    async def thumbnail(
        self, viewer: TileClient, org_slug: str, slug: str, path: str, *, size_px: int
    ) -> PendingImage:
        """A small picture of the entry at `path`.

        Raises:
            NotFound: there is nothing at the path.
            InvalidInput: it is a folder, or nothing that can be drawn (`no-thumbnail`).
        """
        target = paths.entry_path(path)
        dataset = await self._dataset(viewer, org_slug, slug, None)
        async with self.db.read() as connection:
            row, cog = await find_raster(connection, dataset.row.id, target)
        content, subject = content_of(row), _subject(row)
        if subject is ThumbnailKind.PICTURE:
            content = raster_of(row, cog).drawn
        digest = thumbnail_digest(content, subject, size_px=size_px)
        draw = partial(self.renderer.thumbnail, content, subject, size_px=size_px, caller=viewer.row)
        return PendingImage(digest, _shared(dataset), draw)

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
            tool, planned.params, inputs, size_px=size_px, caller=waits_as(caller)
        )

    async def issue_token(
        self, caller: Caller, org_slug: str, slug: str, *, task_id: TaskId | None
    ) -> TileToken:
        """A token to look at the dataset, or at one task's result alone, on the caller's behalf.

        Raises:
            Unauthenticated: nobody is signed in.
            NotFound: the dataset has no such task.
        """
        dataset = await self.access.dataset(caller, org_slug, slug)
        require_user(caller)
        if task_id is not None:
            await self.tasks.status_in(dataset, task_id)
        return self.tokens.issue(_scope(caller, dataset.row.id, task_id))

    def token_for(self, viewer: TileClient, viewed: TileSource, *, task_id: TaskId | None) -> str | None:
        """The token that the addresses of the raster's tiles have to carry; None where they need none."""
        if viewed.open_to_all:
            return None
        if viewer.token is not None and self._covers(viewer.token, viewed.dataset_id, task_id):
            return viewer.token
        return self.tokens.issue(_scope(viewer.caller, viewed.dataset_id, task_id)).token

    def _covers(self, token: str, dataset_id: DatasetId, task_id: TaskId | None) -> bool:
        try:
            return self.tokens.read(token).covers(dataset_id, task_id)
        except Unauthenticated:
            return False

    async def _draw_tile(self, viewed: TileSource, style: Style, at: TileIndex, *, size_px: int) -> bytes:
        look = await self.look(viewed, style)
        if not at.touches(look.place()):
            raise NotFound("The raster doesn't reach into this tile.", code="tile-outside")
        return await self.renderer.tile(viewed.raster, look, style, at, size_px=size_px, caller=viewed.row)

    async def _dataset(
        self, viewer: TileClient, org_slug: str, slug: str, task_id: TaskId | None
    ) -> AccessibleDataset:
        """The dataset, for who looks; with a token that doesn't hold, or not here, they are who they are without it."""
        if viewer.token is None:
            return await self.access.dataset(viewer.caller, org_slug, slug)
        try:
            scope = self.tokens.read(viewer.token)
            caller = await self._caller(scope)
        except Unauthenticated as error:
            return await self.access.dataset(_otherwise(viewer, error.message), org_slug, slug)
        try:
            dataset = await self.access.dataset(caller, org_slug, slug)
        except NotFound:  # answered as where there is one that the token isn't for
            dataset = None
        if dataset is None or not scope.covers(dataset.row.id, task_id):
            reason = "The viewing token is for something else, or its owner has lost the right."
            return await self.access.dataset(_otherwise(viewer, reason), org_slug, slug)
        return dataset

    async def _caller(self, scope: TileScope) -> Caller:
        async with self.db.read() as connection:
            user = await users.find(connection, scope.user_id)
            held = scope.key_id is None or await api_keys.is_valid(connection, scope.user_id, scope.key_id)
        if user is None or user.is_deactivated or user.token_epoch != scope.epoch or not held:
            raise Unauthenticated("The viewing token has been revoked.", code="bad-credentials")
        return Caller(user_id=user.id, user_name=user.user_name, is_admin=user.is_admin, read_only=True)


def _scope(caller: Caller, dataset_id: DatasetId, task_id: TaskId | None) -> TileScope:
    """On the caller's behalf, for as long as the credentials hold that they have now."""
    return TileScope(require_user(caller), caller.epoch, caller.key_id, dataset_id, task_id)


def waits_as(caller: Caller) -> str:
    """Whose share of the drawing the caller's pictures are: a user's, or an address's."""
    return (
        f"address {throttled_address(caller.address)}" if caller.user_id is None else f"user {caller.user_id}"
    )


def _otherwise(viewer: TileClient, reason: str) -> Caller:
    """Who looks if it isn't whom the token names."""
    if not viewer.caller.anonymous:
        return viewer.caller
    return Caller(ANONYMOUS.user_id, ANONYMOUS.user_name, rejected_credentials=reason)


def _viewed(name: str, raster: RasterSource, dataset: AccessibleDataset, viewer: TileClient) -> TileSource:
    open_to_all = dataset.row.visibility is not Visibility.PRIVATE
    return TileSource(name, raster, dataset.row.id, open_to_all, _shared(dataset), viewer.row)


def _shared(dataset: AccessibleDataset) -> bool:
    return dataset.row.visibility is Visibility.PUBLIC


def _subject(row: EntryRow) -> ThumbnailKind:
    if suffix_of(row.path) == "heic":
        raise InvalidInput(
            "HEIC pictures aren't drawn: no free decoder of them comes with this installation. Upload a JPEG of it.",
            code="no-thumbnail",
        )
    if row.type in IMAGE_TYPES:
        return ThumbnailKind.PICTURE
    if row.type == EntryType.POINT_CLOUD:
        return ThumbnailKind.CLOUD
    if row.type == EntryType.VECTOR and suffix_of(row.path) == "geojson":
        return ThumbnailKind.GEOJSON
    raise InvalidInput(
        f"There are no thumbnails of entries like {paths.shown(row.path)}; of pictures, rasters, LAS or LAZ "
        "clouds and GeoJSON there are.",
        code="no-thumbnail",
    )

"""Renderer of tiles, thumbnails and previews: runs jobs in the pool, and caches images, render infos and failures."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from aerotask.blobs.blob_store import BlobStore
from aerotask.domain.errors import AerotaskError, InvalidInput, Unavailable
from aerotask.domain.settings import RenderSettings
from aerotask.sandbox.pool import ChildCrashed, JobTimeout, Pool, PoolLimits
from aerotask.sandbox.protocol import Message
from aerotask.sdk import Tool
from aerotask.tiles.image_cache import ImageCache
from aerotask.tiles.jobs import MEMORY_BYTES, PreviewJob, RenderInfoJob, ThumbnailJob, ThumbnailKind, TileJob
from aerotask.tiles.local_files import LocalFileCache
from aerotask.tiles.negative_cache import TTL_S, NegativeCache
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.single_flight import SingleFlight
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

RENDER_PROGRAM = "aerotask.tiles.render_child"
# Until one more request is refused, at least this many callers have to wait for images.
CALLERS_AT_LEAST = 4
RENDER_VERSION = "3"
"""Part of every digest: change it when the same request renders a different image than before."""
MAX_RENDER_INFOS = 2048
_BROKEN_JSON = (orjson.JSONDecodeError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class RenderSource:
    """Stored content to render.

    Caches use the blob key, not the SHA-256: a compromised tool could claim another file's hash and read or poison
    its cached images.
    """

    blob_key: str
    sha256: str
    size_bytes: int | None = None
    """The length that the file must have, if known."""


@dataclass(frozen=True, slots=True)
class RasterSource:
    """Raster on a map: the original, and the content that tiles are read from."""

    original: RenderSource
    cog: RenderSource
    """The COG derivative if there is one, else the original."""


class Renderer:
    """Cached rendering in the child processes of a pool.

    `queue_key` of a method is the fairness key: each key has its own queue for children.
    """

    def __init__(self, pool: Pool, files: LocalFileCache, cache: ImageCache) -> None:
        self._pool = pool
        self._files = files
        files.on_new_folder = pool.renew
        self._cache = cache
        self._running: SingleFlight[bytes] = SingleFlight()
        self._render_infos: OrderedDict[str, RenderInfo] = OrderedDict()
        self._failures = NegativeCache()

    async def close(self) -> None:
        """Cancels running jobs, kills the children and removes the local files."""
        await self._running.close()
        await self._pool.close()
        await self._files.close()

    async def render_info(self, raster: RasterSource, style: Style, *, queue_key: str) -> RenderInfo:
        """The raster's render info, computed once per content and style.

        Raises:
            InvalidInput: the raster can't be read, or doesn't have what the style needs.
            Unavailable: too many jobs are waiting.
        """
        digest = render_info_digest(raster, style)
        known = self._render_infos.get(digest)
        if known is None:
            known = await self._cached_render_info(digest, raster, style, queue_key)
            self._render_infos[digest] = known
            if len(self._render_infos) > MAX_RENDER_INFOS:
                self._render_infos.popitem(last=False)
        return known

    async def _cached_render_info(
        self, digest: str, raster: RasterSource, style: Style, queue_key: str
    ) -> RenderInfo:
        sources = [raster.original, raster.cog]

        async def read(files: list[Path]) -> bytes:
            job = RenderInfoJob(files[0], files[1], style).to_message()
            return orjson.dumps((await self._run(digest, sources, job, queue_key)).body)

        try:
            return _parse_render_info(await self._cached(digest, sources, read))
        except _BROKEN_JSON:  # the cached file was damaged
            await asyncio.to_thread(self._cache.remove, digest)
            return _parse_render_info(await self._cached(digest, sources, read))

    async def tile(  # noqa: PLR0913  raster, style and place of the tile, and its queue
        self,
        raster: RasterSource,
        info: RenderInfo,
        style: Style,
        tile: TileIndex,
        *,
        size_px: int,
        queue_key: str,
    ) -> bytes:
        """A tile as PNG.

        Raises:
            InvalidInput, Unavailable: as for the render info.
        """
        digest = tile_digest(raster, style, tile, size_px=size_px)

        async def draw(files: list[Path]) -> bytes:
            job = TileJob(files[0], info, style, tile, size_px).to_message()
            return (await self._run(digest, [raster.cog], job, queue_key)).content

        return await self._cached(digest, [raster.cog], draw)

    async def thumbnail(
        self, raster: RasterSource, kind: ThumbnailKind, *, size_px: int, queue_key: str
    ) -> bytes:
        """A thumbnail as WebP; for other kinds than pictures, both contents of `raster` are the entry's own.

        Raises:
            InvalidInput, Unavailable: as for the render info.
        """
        digest = thumbnail_digest(raster, kind, size_px=size_px)
        sources = [raster.original, raster.cog]

        async def draw(files: list[Path]) -> bytes:
            job = ThumbnailJob(files[0], files[1], kind, size_px).to_message()
            return (await self._run(digest, sources, job, queue_key)).content

        return await self._cached(digest, sources, draw)

    async def preview(
        self,
        tool: Tool[Any],
        params: Mapping[str, Any],
        inputs: Mapping[str, RenderSource],
        *,
        size_px: int,
        queue_key: str,
    ) -> bytes:
        """A preview of a tool's result, as WebP.

        Raises:
            InvalidInput: the inputs can't be read, or the tool refuses them.
            Unavailable: too many jobs are waiting.
        """
        sources = list(inputs.values())
        blob_keys = {path: source.blob_key for path, source in inputs.items()}
        digest = _digest("preview", tool.id, tool.version, params, blob_keys, size_px)

        async def draw(files: list[Path]) -> bytes:
            files_by_path = dict(zip(inputs, files, strict=True))
            job = PreviewJob(tool.id, tool.version, params, files_by_path, size_px).to_message()
            return (await self._run(digest, sources, job, queue_key)).content

        return await self._cached(digest, sources, draw)

    async def _cached(
        self, digest: str, sources: list[RenderSource], render: Callable[[list[Path]], Awaitable[bytes]]
    ) -> bytes:
        """The cached image, or the one that `render` makes from the sources' files."""
        self._failures.raise_if_failed(digest, [each.blob_key for each in sources])
        cached = await asyncio.to_thread(self._cache.get, digest)
        if cached is not None:
            return cached

        async def work() -> bytes:
            async with AsyncExitStack() as stack:
                files = [
                    await stack.enter_async_context(self._files.file(each.blob_key, each.size_bytes))
                    for each in sources
                ]
                rendered = await render(files)
            await asyncio.to_thread(self._cache.put, digest, rendered)
            return rendered

        return await self._running.run(digest, work)

    async def _run(
        self, digest: str, sources: Sequence[RenderSource], job: Message, queue_key: str
    ) -> Message:
        try:
            return await self._pool.run(job, caller=queue_key)
        except ChildCrashed as error:
            failure: AerotaskError = InvalidInput(
                "Rendering crashed; the file is probably damaged.", code="drawing-crashed"
            )
            self._failures.add(digest, [each.blob_key for each in sources], failure)
            raise failure from error
        except JobTimeout as error:
            failure = Unavailable(
                "Rendering takes too long; build the file's derivatives, or try again later.",
                code="drawing-timed-out",
                retry_after_s=int(TTL_S),
            )
            self._failures.add(digest, [each.blob_key for each in sources], failure)
            raise failure from error


def _parse_render_info(content: bytes) -> RenderInfo:
    return RenderInfo.from_json(orjson.loads(content))


def render_info_digest(raster: RasterSource, style: Style) -> str:
    """Cache key of a render info."""
    return _digest("look", raster.original.blob_key, raster.cog.blob_key, style.to_json())


def tile_digest(raster: RasterSource, style: Style, tile: TileIndex, *, size_px: int) -> str:
    """Cache key of a tile."""
    return _digest("tile", raster.original.blob_key, raster.cog.blob_key, style.to_json(), tile, size_px)


def thumbnail_digest(raster: RasterSource, kind: ThumbnailKind, *, size_px: int) -> str:
    """Cache key of a thumbnail."""
    return _digest("thumbnail", raster.original.blob_key, raster.cog.blob_key, kind, size_px)


def _digest(*parts: object) -> str:
    listed = orjson.dumps([RENDER_VERSION, *parts], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(listed).hexdigest()


def open_renderer(settings: RenderSettings, blobs: BlobStore) -> Renderer:
    """The renderer of one process, with its pool of children and its caches."""
    limits = PoolLimits(
        children=settings.processes,
        max_waiting=settings.queue,
        max_waiting_per_caller=max(1, settings.queue // CALLERS_AT_LEAST),
        job_timeout_s=settings.timeout_s,
        memory_bytes=MEMORY_BYTES,
    )
    folder = settings.cache_folder or blobs.cache_folder
    if settings.cache_folder:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = LocalFileCache(blobs)
    cache = ImageCache(folder, limit_bytes=settings.cache_bytes)
    return Renderer(Pool(RENDER_PROGRAM, limits, files.folder), files, cache)

"""Draws through the pool, and remembers: what was drawn in files, looks in memory, and what failed for a minute."""

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
from aerotask.tiles.jobs import PreviewJob, RenderInfoJob, ThumbnailJob, ThumbnailKind, TileJob
from aerotask.tiles.local_files import LocalFileCache
from aerotask.tiles.negative_cache import FORGIVEN_AFTER_S, NegativeCache
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.single_flight import SingleFlight
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

RENDER_PROGRAM = "aerotask.tiles.render_child"
# Until one more request is refused, at least this many callers have to wait for images.
CALLERS_AT_LEAST = 4
RENDER_VERSION = "1"
"""Part of every digest: another number where the same request gives another picture than before."""
KEPT_LOOKS = 2048
_NO_LOOK = (orjson.JSONDecodeError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class RenderSource:
    """A stored content to draw.

    Pictures are kept and failures counted by its key: the hash of what a run published is the run's own word, with
    which a taken-over one would get, or spoil, the pictures of somebody else's content.
    """

    blob_key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RasterSource:
    """A raster to put on a map: as it was uploaded, and the content its tiles are drawn from (often the same)."""

    source: RenderSource
    drawn: RenderSource


class Renderer:
    """Everything that is drawn in one process.

    The `caller` of a method is whoever has to wait in their own row when many want pictures.
    """

    def __init__(self, pool: Pool, files: LocalFileCache, cache: ImageCache) -> None:
        self._pool = pool
        self._files = files
        files.on_new_folder = pool.renew
        self._cache = cache
        self._drawing: SingleFlight[bytes] = SingleFlight()
        self._looks: OrderedDict[str, RenderInfo] = OrderedDict()
        self._failures = NegativeCache()

    async def close(self) -> None:
        """End what is under way, kill the children and give the files back."""
        await self._drawing.close()
        await self._pool.close()
        await self._files.close()

    async def look(self, raster: RasterSource, style: Style, *, caller: str) -> RenderInfo:
        """The raster's look, found once for each content and style.

        Raises:
            InvalidInput: the raster can't be read, or can't give what the style asks for.
            Unavailable: too much is being drawn.
        """
        digest = look_digest(raster, style)
        contents = [raster.source, raster.drawn]
        known = self._looks.get(digest)
        if known is None:

            async def find(files: list[Path]) -> bytes:
                reply = await self._run(
                    digest, contents, RenderInfoJob(files[0], files[1], style).to_message(), caller
                )
                return orjson.dumps(reply.body)

            try:
                known = _look_in(await self._made(digest, contents, find))
            except _NO_LOOK:  # the file in the cache was damaged
                await asyncio.to_thread(self._cache.forget, digest)
                known = _look_in(await self._made(digest, contents, find))
            self._looks[digest] = known
            if len(self._looks) > KEPT_LOOKS:
                self._looks.popitem(last=False)
        return known

    async def tile(  # noqa: PLR0913  what, and for whom
        self,
        raster: RasterSource,
        look: RenderInfo,
        style: Style,
        at: TileIndex,
        *,
        size_px: int,
        caller: str,
    ) -> bytes:
        """A tile as PNG.

        Raises:
            InvalidInput, Unavailable: as for the look.
        """
        digest = tile_digest(raster, style, at, size_px=size_px)

        async def draw(files: list[Path]) -> bytes:
            return (
                await self._run(
                    digest, [raster.drawn], TileJob(files[0], look, style, at, size_px).to_message(), caller
                )
            ).content

        return await self._made(digest, [raster.drawn], draw)

    async def thumbnail(
        self, content: RenderSource, subject: ThumbnailKind, *, size_px: int, caller: str
    ) -> bytes:
        """A small picture of the content, as WebP.

        Raises:
            InvalidInput, Unavailable: as for the look.
        """
        digest = thumbnail_digest(content, subject, size_px=size_px)

        async def draw(files: list[Path]) -> bytes:
            return (
                await self._run(
                    digest, [content], ThumbnailJob(files[0], subject, size_px).to_message(), caller
                )
            ).content

        return await self._made(digest, [content], draw)

    async def preview(
        self,
        tool: Tool[Any],
        params: Mapping[str, Any],
        inputs: Mapping[str, RenderSource],
        *,
        size_px: int,
        caller: str,
    ) -> bytes:
        """The tool's preview of its result, as WebP.

        Raises:
            InvalidInput: the inputs can't be read, or the tool refuses them.
            Unavailable: too much is being drawn.
        """
        contents = {path: content.blob_key for path, content in inputs.items()}
        digest = _digest("preview", tool.id, tool.version, params, contents, size_px)

        async def draw(files: list[Path]) -> bytes:
            named = dict(zip(inputs, files, strict=True))
            return (
                await self._run(
                    digest,
                    list(inputs.values()),
                    PreviewJob(tool.id, tool.version, params, named, size_px).to_message(),
                    caller,
                )
            ).content

        return await self._made(digest, list(inputs.values()), draw)

    async def _made(
        self, digest: str, contents: list[RenderSource], make: Callable[[list[Path]], Awaitable[bytes]]
    ) -> bytes:
        """What the cache has, or what is made of the contents' files."""
        self._failures.refuse(digest, [each.blob_key for each in contents])
        kept = await asyncio.to_thread(self._cache.get, digest)
        if kept is not None:
            return kept

        async def work() -> bytes:
            async with AsyncExitStack() as stack:
                files = [
                    await stack.enter_async_context(self._files.file(each.blob_key)) for each in contents
                ]
                made = await make(files)
            await asyncio.to_thread(self._cache.put, digest, made)
            return made

        return await self._drawing.do(digest, work)

    async def _run(self, digest: str, contents: Sequence[RenderSource], job: Message, caller: str) -> Message:
        try:
            return await self._pool.run(job, caller=caller)
        except ChildCrashed as error:
            refusal: AerotaskError = InvalidInput(
                "Drawing it crashed; the file is probably damaged.", code="drawing-crashed"
            )
            self._failures.remember(digest, [each.blob_key for each in contents], refusal)
            raise refusal from error
        except JobTimeout as error:
            refusal = Unavailable(
                "Drawing it takes too long; build its derivatives, or try again later.",
                code="drawing-timed-out",
                retry_after_s=int(FORGIVEN_AFTER_S),
            )
            self._failures.remember(digest, [each.blob_key for each in contents], refusal)
            raise refusal from error


def _look_in(content: bytes) -> RenderInfo:
    return RenderInfo.from_json(orjson.loads(content))


def look_digest(raster: RasterSource, style: Style) -> str:
    """What a look follows from."""
    return _digest("look", raster.source.blob_key, raster.drawn.blob_key, style.to_json())


def tile_digest(raster: RasterSource, style: Style, at: TileIndex, *, size_px: int) -> str:
    """What a tile follows from."""
    return _digest("tile", raster.source.blob_key, raster.drawn.blob_key, style.to_json(), at, size_px)


def thumbnail_digest(content: RenderSource, subject: ThumbnailKind, *, size_px: int) -> str:
    """What a thumbnail follows from."""
    return _digest("thumbnail", content.blob_key, subject, size_px)


def _digest(*parts: object) -> str:
    listed = orjson.dumps([RENDER_VERSION, *parts], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(listed).hexdigest()


def open_renderer(settings: RenderSettings, blobs: BlobStore) -> Renderer:
    """The renderer of one process, with its pool of children and its caches."""
    limits = PoolLimits(
        children=settings.processes,
        waiting=settings.queue,
        waiting_each=max(1, settings.queue // CALLERS_AT_LEAST),
        job_timeout_s=settings.timeout_s,
    )
    folder = settings.cache_folder or blobs.work_root.parent / "cache"
    files = LocalFileCache(blobs)
    cache = ImageCache(folder, limit_bytes=settings.cache_bytes)
    return Renderer(Pool(RENDER_PROGRAM, limits, files.folder), files, cache)

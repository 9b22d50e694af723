"""Fork server program of the API: its children render tiles, thumbnails and previews."""

from __future__ import annotations

import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import rasterio
from PIL import Image

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.io import GDAL_OPTIONS
from aerotask.registry import Registry, load_registry
from aerotask.sandbox import forkserver
from aerotask.sandbox.pool_child import Handler, serve_jobs
from aerotask.sandbox.protocol import Message
from aerotask.sdk import Tool
from aerotask.sdk.tool import has_preview
from aerotask.tiles.dataset_cache import DatasetCache, RasterFiles
from aerotask.tiles.jobs import MEMORY_BYTES, PreviewJob, RenderInfoJob, ThumbnailJob, ThumbnailKind, TileJob
from aerotask.tiles.png import encode_png
from aerotask.tiles.raster_tiles import MapRaster, draw_thumbnail, draw_tile, read_render_info
from aerotask.tiles.thumbnails import image
from aerotask.tiles.thumbnails.pointcloud import draw_cloud
from aerotask.tiles.thumbnails.vector import draw_geojson

_RASTER = "the raster"


def run_render_child(
    own: socket.socket,
    *,
    registry: Registry,
    more: Mapping[str, Handler] | None = None,
    writes: Sequence[Path] = (),
) -> None:
    """Do the pool's rendering jobs; `more` handlers, and the folders they write to, are for tests.

    The files are in the folders that the program's further arguments name.
    """
    reads = [Path(folder) for folder in sys.argv[2:]]
    warnings.simplefilter("ignore")  # about missing georeferences and overviews, which were checked before
    with rasterio.Env(**GDAL_OPTIONS), DatasetCache() as rasters:
        handlers: dict[str, Handler] = {
            "render-info": partial(_render_info, rasters),
            "tile": partial(_tile, rasters),
            "thumbnail": partial(_thumbnail, rasters),
            "preview": partial(_preview, registry),
            **(more or {}),
        }
        serve_jobs(own, handlers, memory_bytes=MEMORY_BYTES, reads=reads, writes=writes)


@contextmanager
def _entries_named(files: Mapping[Path, str]) -> Iterator[None]:
    """Give errors in the block the subjects that clients know instead of the names of cached files."""
    try:
        yield
    except InvalidInput as error:
        message = error.message
        for file, subject in files.items():
            message = message.replace(shown(file.name), subject).replace(file.name, subject)
        if message == error.message:
            raise
        raise InvalidInput(
            message[0].upper() + message[1:], code=error.code, errors=error.errors
        ) from error.__cause__


def _subjects(*files: Path | None) -> dict[Path, str]:
    return {file: _RASTER for file in files if file is not None}


def _render_info(rasters: DatasetCache, body: Mapping[str, Any]) -> Message:
    job = RenderInfoJob.from_body(body)
    with _entries_named(_subjects(job.original, job.cog)):
        info = read_render_info(rasters, job.original, job.cog, job.style, job.side)
    return Message("done", info.to_json())


def _tile(rasters: DatasetCache, body: Mapping[str, Any]) -> Message:
    job = TileJob.from_body(body)
    raster = MapRaster(RasterFiles(job.cog, job.overviews), job.render_info, job.style)
    with _entries_named(_subjects(job.cog, job.overviews)):
        drawn = draw_tile(rasters, raster, job.tile_index, size_px=job.size_px)
    return Message("done", content=encode_png(drawn))


def _thumbnail(rasters: DatasetCache, body: Mapping[str, Any]) -> Message:
    job = ThumbnailJob.from_body(body)
    if job.subject is ThumbnailKind.PICTURE and image.is_photo(job.path):
        return Message("done", content=image.draw_photo(job.path, size_px=job.size_px))
    if job.subject is ThumbnailKind.GEOJSON:
        return Message("done", content=image.encode_webp(draw_geojson(job.path, size_px=job.size_px)))
    if job.subject is ThumbnailKind.CLOUD:
        picture = draw_cloud(job.path, size_px=job.size_px)
    else:
        files = RasterFiles(job.cog, job.overviews)
        with _entries_named(_subjects(job.path, job.cog, job.overviews)):
            picture = draw_thumbnail(rasters, job.path, files, info=job.render_info, size_px=job.size_px)
    return Message("done", content=image.encode_webp(Image.fromarray(picture)))


def _preview(registry: Registry, body: Mapping[str, Any]) -> Message:
    job = PreviewJob.from_body(body)
    tool = registry.get(job.tool_id, job.tool_version)
    params = tool.params.model_validate_json(orjson.dumps(job.params))
    with _entries_named({file: shown(path) for path, file in job.inputs.items()}):
        content = tool.preview(params, job.inputs, longest_px=job.size_px)
    return Message("done", content=content)


def _preload() -> Callable[[socket.socket], None]:
    Image.init()
    registry = load_registry()
    for tool in filter(has_preview, registry.all()):
        _preload_tool(tool)
    return partial(run_render_child, registry=registry)


def _preload_tool(tool: Tool[Any]) -> None:
    try:
        tool.preload()
    # The edge to third-party code: a broken plug-in must not stop the tiles.
    except Exception:  # noqa: BLE001
        traceback.print_exc()


if __name__ == "__main__":
    forkserver.main(_preload)

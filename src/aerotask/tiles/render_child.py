"""Fork server program of the API: its children render tiles, thumbnails and previews."""

from __future__ import annotations

import socket
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import rasterio
from PIL import Image

from aerotask.domain.errors import InvalidInput
from aerotask.raster.io import GDAL_OPTIONS
from aerotask.sandbox import forkserver
from aerotask.sandbox.pool_child import Handler, serve_jobs
from aerotask.sandbox.protocol import Message
from aerotask.tiles.dataset_cache import DatasetCache
from aerotask.tiles.jobs import PreviewJob, RenderInfoJob, ThumbnailJob, ThumbnailKind, TileJob
from aerotask.tiles.png import encode_png
from aerotask.tiles.previews import PREVIEWS, Preview
from aerotask.tiles.raster_tiles import MapRaster, draw_thumbnail, draw_tile, read_render_info
from aerotask.tiles.thumbnails import image
from aerotask.tiles.thumbnails.pointcloud import draw_cloud
from aerotask.tiles.thumbnails.vector import draw_geojson

MEMORY_BYTES = 1024**3
"""Memory limit of one child, beyond what the fork shares."""


def run_render_child(
    own: socket.socket,
    *,
    previews: Mapping[str, Preview] = PREVIEWS,
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
            "look": partial(_look, rasters),
            "tile": partial(_tile, rasters),
            "thumbnail": partial(_thumbnail, rasters),
            "preview": partial(_preview, previews),
            **(more or {}),
        }
        serve_jobs(own, handlers, memory_bytes=MEMORY_BYTES, reads=reads, writes=writes)


def _look(rasters: DatasetCache, body: Mapping[str, Any]) -> Message:
    job = RenderInfoJob.from_body(body)
    return Message("done", read_render_info(rasters, job.source, job.drawn, job.style).to_json())


def _tile(rasters: DatasetCache, body: Mapping[str, Any]) -> Message:
    job = TileJob.from_body(body)
    subject = MapRaster(job.drawn, job.look, job.style)
    return Message("done", content=encode_png(draw_tile(rasters, subject, job.at, size_px=job.size_px)))


def _thumbnail(rasters: DatasetCache, body: Mapping[str, Any]) -> Message:
    job = ThumbnailJob.from_body(body)
    if job.subject is ThumbnailKind.PICTURE and image.is_photo(job.path):
        return Message("done", content=image.draw_photo(job.path, size_px=job.size_px))
    if job.subject is ThumbnailKind.GEOJSON:
        return Message("done", content=image.encode_webp(draw_geojson(job.path, size_px=job.size_px)))
    if job.subject is ThumbnailKind.CLOUD:
        picture = draw_cloud(job.path, size_px=job.size_px)
    else:
        picture = draw_thumbnail(rasters, job.path, size_px=job.size_px)
    return Message("done", content=image.encode_webp(Image.fromarray(picture)))


def _preview(previews: Mapping[str, Preview], body: Mapping[str, Any]) -> Message:
    job = PreviewJob.from_body(body)
    preview = previews.get(job.tool_id)
    if preview is None:
        raise InvalidInput(f"Tool '{job.tool_id}' has no preview.", code="no-preview")
    return Message("done", content=preview(job.params, job.inputs, job.size_px))


def _preload() -> Callable[[socket.socket], None]:
    Image.init()
    return run_render_child


if __name__ == "__main__":
    forkserver.main(_preload)

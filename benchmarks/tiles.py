"""Tile benchmark: map tiles per second by the API's renderer and by bare rio-tiler, in one style.

Of a COG on the web map's grid, and of one in UTM zone 32, on the grid that orthophotos have.

python benchmarks/tiles.py [SIDE_PX] [TILES]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import numpy as np
import rasterio
import rasterio.shutil
from rio_tiler.colormap import cmap
from rio_tiler.io import Reader

from aerotask.blobs.local import LocalBlobs
from aerotask.demo_data.orthophoto import write_orthophoto
from aerotask.sandbox.pool import Pool, PoolLimits
from aerotask.tiles.image_cache import ImageCache
from aerotask.tiles.local_files import LocalFileCache
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.renderer import RasterSource, Renderer, RenderSource
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import MAX_ZOOM, TileIndex

SIZE_PX = 8192
PROCESSES = 2
CLIENTS = 8
TILES = 300
STYLE = Style(formula="NDVI")
EXPRESSION = "(b4-b1)/(b4+b1)"
ROUNDS = 2
GRIDS = {"on the web map's grid": {"tiling_scheme": "GoogleMapsCompatible"}, "in UTM zone 32": {}}


def main() -> None:
    size_px, tiles = (
        int(sys.argv[number]) if len(sys.argv) > number else default
        for number, default in ((1, SIZE_PX), (2, TILES))
    )
    folder = Path(tempfile.mkdtemp(prefix="aerotask-bench-"))
    try:
        for name, grid in GRIDS.items():
            print(f"== COG of an orthophoto of {size_px}² pixels, {name}")
            here = folder / name.replace(" ", "-")
            here.mkdir()
            asyncio.run(compare(here, write_cog(here, size_px, grid), tiles))
    finally:
        shutil.rmtree(folder)


def write_cog(folder: Path, size_px: int, grid: Mapping[str, str]) -> Path:
    """COG of an orthophoto, with tiles of 512 pixels (256 on the web map's grid) and all overviews."""
    plain, cog = folder / "plain.tif", folder / "cog.tif"
    write_orthophoto(plain, size_px=size_px, bands=4)
    with rasterio.Env(GDAL_CACHEMAX=256):
        rasterio.shutil.copy(plain, cog, driver="COG", compress="DEFLATE", predictor="YES", **grid)
    plain.unlink()
    return cog


async def compare(folder: Path, cog: Path, tile_count: int) -> None:
    blobs = LocalBlobs(folder / "storage")
    blobs.create(uuid4())
    stored = await blobs.ingest(cog)
    content = RenderSource(stored.key, stored.sha256)
    raster = RasterSource(content, content)
    kept = folder / "kept.tif"
    await blobs.link_to(stored.key, kept)
    limits = PoolLimits(children=PROCESSES, max_waiting=1000, job_timeout_s=60)
    for number in range(ROUNDS):
        cache_folder = folder / f"cache-{number}"
        cache_folder.mkdir()
        cache = ImageCache(cache_folder, limit_bytes=10**9)
        files = LocalFileCache(blobs)
        renderer = Renderer(Pool("aerotask.tiles.render_child", limits, files.folder), files, cache)
        info = await renderer.render_info(raster, STYLE, queue_key="")
        tiles = known_to_rio_tiler(kept, some_tiles(info, tile_count))
        ours, ours_ms = await by_renderer(renderer, raster, info, tiles)
        again, again_ms = await by_renderer(renderer, raster, info, tiles)
        await renderer.close()
        bare, bare_ms = await asyncio.to_thread(by_rio_tiler, kept, tiles, threads=PROCESSES)
        one, _ = await asyncio.to_thread(by_rio_tiler, kept, tiles, threads=1)
        print(f"round {number + 1}: {len(tiles)} tiles of zooms {tiles[-1].z}–{tiles[0].z}")
        print(
            f"  renderer, {PROCESSES} children: {ours:7.1f} tiles/s   p50 {ours_ms[0]:.0f} ms, p95 {ours_ms[1]:.0f} ms"
        )
        print(
            f"  renderer, from its cache: {again:7.1f} tiles/s   p50 {again_ms[0]:.1f} ms, p95 {again_ms[1]:.1f} ms"
        )
        print(
            f"  rio-tiler, {PROCESSES} threads: {bare:7.1f} tiles/s   p50 {bare_ms[0]:.0f} ms, p95 {bare_ms[1]:.0f} ms"
        )
        print(f"  rio-tiler, 1 thread: {one:7.1f} tiles/s")
        print(f"  ours over rio-tiler's: {ours / bare:.2f}")


def some_tiles(info: RenderInfo, count: int) -> list[TileIndex]:
    """Tiles of the highest zooms that intersect the raster, in random order as for a viewer who pans around."""
    random = np.random.default_rng(7)
    found: list[TileIndex] = []
    for zoom in range(info.max_zoom, max(info.max_zoom - 4, 0), -1):
        tiles = list(tiles_of(info, zoom))
        random.shuffle(tiles)
        found += tiles[: count // 4]
    return found


def known_to_rio_tiler(path: Path, tiles: Sequence[TileIndex]) -> list[TileIndex]:
    """The tiles without those at the edge that rio-tiler refuses, as they hardly touch the raster."""
    with Reader(str(path)) as reader:
        return [at for at in tiles if reader.tile_exists(at.x, at.y, at.z)]


def tiles_of(info: RenderInfo, zoom: int) -> Iterator[TileIndex]:
    west, south, east, north = info.require_bounds()
    side = 2 ** min(zoom, MAX_ZOOM)
    columns = [int((longitude + 180) / 360 * side) for longitude in (west, east)]
    rows = [
        int((1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2 * side) for latitude in (north, south)
    ]
    for x in range(columns[0], columns[1] + 1):
        for y in range(rows[0], rows[1] + 1):
            at = TileIndex(zoom, x, y)
            if at.intersects(info.require_bounds()):
                yield at


async def by_renderer(
    renderer: Renderer, raster: RasterSource, info: RenderInfo, tiles: Sequence[TileIndex]
) -> tuple[float, tuple[float, float]]:
    clients = asyncio.Semaphore(CLIENTS)
    times: list[float] = []

    async def ask(at: TileIndex) -> None:
        async with clients:
            started = time.perf_counter()
            await renderer.tile(raster, info, STYLE, at, size_px=256, queue_key="")
            times.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*map(ask, tiles))
    return len(tiles) / (time.perf_counter() - started), _percentiles(times)


def by_rio_tiler(
    path: Path, tiles: Sequence[TileIndex], *, threads: int
) -> tuple[float, tuple[float, float]]:
    """Renders as in rio-tiler's documentation: a reader per request, the expression, a colormap, a PNG."""
    colours = cmap.get("rdylgn")
    times: list[float] = []

    def draw(at: TileIndex) -> None:
        started = time.perf_counter()
        with Reader(str(path)) as reader:
            image = reader.tile(at.x, at.y, at.z, expression=EXPRESSION)
        image.rescale(in_range=((-1, 1),))
        image.render(img_format="PNG", colormap=colours)
        times.append(time.perf_counter() - started)

    with gdal_as_served(), ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(draw, tiles))
        return len(tiles) / (time.perf_counter() - started), _percentiles(times)


@contextmanager
def gdal_as_served() -> Iterator[None]:
    """GDAL settings of tile servers: no directory listing, a cache."""
    os.environ["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    os.environ["GDAL_CACHEMAX"] = "64"
    yield


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(times, (50, 95)) * 1000
    return float(p50), float(p95)


if __name__ == "__main__":
    main()

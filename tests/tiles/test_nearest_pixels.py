"""Tiles of rasters in any CRS and orientation: each pixel is the nearest pixel of the raster, told by its colour."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine, from_bounds, from_origin
from rasterio.warp import reproject, transform
from tests.raster.rasters import write_raster
from tests.tiles.maps import AT

from aerotask.raster.io import GDAL_OPTIONS
from aerotask.tiles.dataset_cache import DatasetCache, RasterFiles
from aerotask.tiles.raster_tiles import MapRaster, draw_tile, read_render_info
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

Index = np.ndarray[Any, np.dtype[np.int64]]
"""(256, 256): the number of the source pixel that a pixel shows, row by row; -1 for none."""

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
SHAPE = (300, 400)
NEAR_BORDER_PX = 1e-5
"""So near to the border of two pixels, the nearest one is a matter of rounding."""
GDAL_ERROR_PX = 0.125
"""Error that GDAL's own warp allows itself."""

GEOREFERENCES: dict[str, tuple[str, Affine, tuple[float, float]]] = {
    # CRS, transform, and a place within the raster in degrees.
    "utm": ("EPSG:32630", from_origin(500_000, 5_000_000, 0.5, 0.5), (-2.9988, 45.1522)),
    "rotated": (
        "EPSG:32630",
        Affine.translation(500_000, 5_000_000) * Affine.rotation(31) * Affine.scale(0.5, -0.5),
        (-2.9985, 45.1528),
    ),
    "sheared": ("EPSG:32630", Affine(0.5, 0.2, 500_000, 0.1, -0.4, 5_000_000), (-2.9983, 45.1526)),
    "mirrored": ("EPSG:32630", Affine(-0.5, 0, 500_200, 0, -0.5, 5_000_000), (-2.9988, 45.1522)),
    "south-up": ("EPSG:32630", Affine(0.5, 0, 500_000, 0, 0.5, 4_999_850), (-2.9988, 45.1522)),
    "web-mercator": ("EPSG:3857", from_origin(-333_000.3, 5_621_000.7, 0.4, 0.4), (-2.9907, 44.9963)),
    "degrees": ("EPSG:4326", from_origin(9.0, 45.0, 1e-5, 1e-5), (9.002, 44.9985)),
    "longitudes-to-360": ("EPSG:4326", from_origin(200.0, 40.0, 0.05, 0.05), (-150.0, 32.0)),
    "beyond-the-antimeridian": ("EPSG:4326", from_origin(170.0, 10.0, 0.05, 0.05), (-175.0, 2.0)),
    "whole-world-from-0": ("EPSG:4326", from_origin(0.0, 90.0, 0.9, 0.6), (-30.0, 40.0)),
    "national-grid": ("EPSG:27700", from_origin(400_000, 300_000, 25, 25), (-1.93, 52.57)),
    "polar-north": ("EPSG:3413", from_origin(-2_000_000, 1_500_000, 10_000, 10_000), (-40.0, 75.0)),
    "polar-south": ("EPSG:3031", from_origin(-2_000_000, 1_500_000, 10_000, 10_000), (60.0, -80.0)),
    "half-a-globe": (
        "+proj=ortho +lat_0=40 +lon_0=10 +datum=WGS84",
        from_origin(-6_400_000, 4_800_000, 32_000, 32_000),
        (10.0, 40.0),
    ),
}


@pytest.fixture
def rasters() -> Iterator[DatasetCache]:
    with rasterio.Env(**GDAL_OPTIONS), DatasetCache() as opened:
        yield opened


def numbered(path: Path, crs: str, grid: Affine, *, overviews: tuple[int, ...] = ()) -> Path:
    """An image whose colours are the numbers of its pixels, from 1."""
    numbers = np.arange(1, SHAPE[0] * SHAPE[1] + 1).reshape(SHAPE)
    pixels = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255]).astype(np.uint8)
    return write_raster(
        path,
        pixels,
        crs=crs,
        transform=grid,
        colours=RGB,
        overviews=overviews,
        tiled=True,
        blockxsize=128,
        blockysize=128,
    )


def tile_at(place: tuple[float, float], zoom: int) -> TileIndex:
    (x,), (y,) = transform("EPSG:4326", "EPSG:3857", [place[0]], [place[1]])
    side = 2**zoom
    half = math.pi * 6378137
    return TileIndex(zoom, int((x + half) / (2 * half) * side), int((half - y) / (2 * half) * side))


def drawn_numbers(rasters: DatasetCache, path: Path, tile: TileIndex) -> Index:
    info = read_render_info(rasters, path, path, Style())
    drawn = draw_tile(rasters, MapRaster(RasterFiles(path), info, Style()), tile, size_px=256).astype(
        np.int64
    )
    return np.where(drawn[..., 3] == 255, drawn[..., 0] << 16 | drawn[..., 1] << 8 | drawn[..., 2], -1)


def exact_positions(crs: str, grid: Affine, tile: TileIndex) -> tuple[Any, Any]:
    """Columns and rows of all pixel centres, each transformed by itself; not finite for those without a place."""
    cols, rows = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5)
    place = from_bounds(*tile.bounds_m(), 256, 256) * (cols, rows)
    x, y = pyproj.Transformer.from_crs("EPSG:3857", crs, always_xy=True).transform(*place)
    with np.errstate(invalid="ignore"):
        if crs == "EPSG:4326":
            x = grid.c + (x - grid.c) % 360
        cols, rows = ~grid * (x, y)
    return cols, rows


def nearest_numbers(cols: Any, rows: Any) -> Index:
    with np.errstate(invalid="ignore"):
        inside = (cols >= 0) & (cols < SHAPE[1]) & (rows >= 0) & (rows < SHAPE[0])
    numbers = np.full(cols.shape, -1, np.int64)
    numbers[inside] = rows[inside].astype(int) * SHAPE[1] + cols[inside].astype(int) + 1
    return numbers


def certain(cols: Any, rows: Any) -> Any:
    """Whether a position isn't on the border of two pixels, but for rounding."""
    with np.errstate(invalid="ignore"):
        on_border = (np.abs(cols - np.rint(cols)) < NEAR_BORDER_PX) | (
            np.abs(rows - np.rint(rows)) < NEAR_BORDER_PX
        )
    return ~on_border


@pytest.mark.parametrize("name", GEOREFERENCES)
def test_every_pixel_of_a_tile_is_the_nearest_of_the_raster(
    tmp_path: Path, rasters: DatasetCache, name: str
) -> None:
    crs, grid, place = GEOREFERENCES[name]
    path = numbered(tmp_path / "a.tif", crs, grid)
    best = read_render_info(rasters, path, path, Style()).max_zoom
    for zoom in {0, max(best - 1, 0), best + 1}:
        tile = tile_at(place, zoom)
        cols, rows = exact_positions(crs, grid, tile)
        drawn, expected = drawn_numbers(rasters, path, tile), nearest_numbers(cols, rows)
        assert zoom == 0 or (expected > 0).any()
        sure = certain(cols, rows)
        assert sure.mean() > 0.99
        assert np.array_equal(drawn[sure], expected[sure]), zoom


def test_pixels_of_lower_zooms_are_the_nearest_of_the_overview(tmp_path: Path, rasters: DatasetCache) -> None:
    crs, grid, place = GEOREFERENCES["rotated"]
    path = numbered(tmp_path / "a.tif", crs, grid, overviews=(2, 4))
    tile = tile_at(place, read_render_info(rasters, path, path, Style()).max_zoom - 2)
    with rasterio.open(path, overview_level=1) as overview:
        red, green, blue = overview.read().astype(np.int64)
        assert overview.shape == (75, 100)
    cols, rows = exact_positions(crs, grid, tile)
    cols, rows = cols / 4, rows / 4
    sure = certain(cols, rows)
    with np.errstate(invalid="ignore"):
        inside = sure & (cols >= 0) & (cols < 100) & (rows >= 0) & (rows < 75)
    expected = np.full(cols.shape, -1)
    expected[inside] = (red << 16 | green << 8 | blue)[rows[inside].astype(int), cols[inside].astype(int)]
    assert inside.sum() > 3000
    assert np.array_equal(drawn_numbers(rasters, path, tile)[sure], expected[sure])


@pytest.mark.parametrize("name", ["utm", "sheared", "south-up", "web-mercator", "polar-north"])
def test_a_tile_is_gdals_own_warp_by_nearest_neighbour(
    tmp_path: Path, rasters: DatasetCache, name: str
) -> None:
    crs, grid, place = GEOREFERENCES[name]
    path = numbered(tmp_path / "a.tif", crs, grid)
    tile = tile_at(place, read_render_info(rasters, path, path, Style()).max_zoom)
    numbers = np.arange(1, SHAPE[0] * SHAPE[1] + 1, dtype=np.int32).reshape(SHAPE)
    warped = np.zeros((256, 256), np.int32)
    reproject(
        numbers,
        warped,
        src_crs=crs,
        src_transform=grid,
        dst_crs="EPSG:3857",
        dst_transform=from_bounds(*tile.bounds_m(), 256, 256),
        resampling=Resampling.nearest,
    )
    drawn = drawn_numbers(rasters, path, tile)
    assert ((warped > 0) == (drawn > 0)).mean() > 0.99
    shown = (warped > 0) & (drawn > 0)
    assert shown.mean() > 0.05
    assert (drawn == warped)[shown].mean() > 0.95
    cols, rows = exact_positions(crs, grid, tile)
    row, col = np.divmod(warped - 1, SHAPE[1])
    away_px = np.max([col - cols, cols - col - 1, row - rows, rows - row - 1], axis=0)
    assert away_px[shown & (drawn != warped)].max(initial=0) < GDAL_ERROR_PX


def test_an_area_without_a_place_in_the_crs_is_transparent(tmp_path: Path, rasters: DatasetCache) -> None:
    crs, grid, _ = GEOREFERENCES["half-a-globe"]
    path = numbered(tmp_path / "a.tif", crs, grid)
    assert (drawn_numbers(rasters, path, tile_at((-170.0, -40.0), 3)) == -1).all()


def test_a_raster_beyond_180_degrees_is_shown_on_both_sides(tmp_path: Path, rasters: DatasetCache) -> None:
    crs, grid, _ = GEOREFERENCES["beyond-the-antimeridian"]
    path = numbered(tmp_path / "a.tif", crs, grid)
    east, west = (drawn_numbers(rasters, path, tile_at(place, 5)) for place in ((179.9, 2.0), (-179.9, 2.0)))
    # 170° to 180° are the columns 0 to 199, 180° to 190° are those from 200.
    assert ((east[east > 0] - 1) % 400).max() == 199
    assert ((west[west > 0] - 1) % 400).min() == 200


def test_a_raster_without_overviews_is_read_in_parts(tmp_path: Path, rasters: DatasetCache) -> None:
    side = 6000
    values = (np.arange(side * side, dtype=np.uint32) % 251).astype(np.uint8).reshape(side, side)
    west, _, _, north = AT.bounds_m()
    pixel_m = 0.1
    path = write_raster(
        tmp_path / "a.tif",
        values[None],
        crs="EPSG:3857",
        transform=from_origin(west, north, pixel_m, pixel_m),
    )
    tile = TileIndex(AT.z - 2, AT.x // 4, AT.y // 4)
    style = Style(colormap="grayscale", rescale="0,255", bands="1")
    info = read_render_info(rasters, path, path, style)
    drawn = draw_tile(rasters, MapRaster(RasterFiles(path), info, style), tile, size_px=256)
    left, _, right, top = tile.bounds_m()
    step = (right - left) / 256
    cols = np.floor((left + step * (np.arange(256) + 0.5) - west) / pixel_m).astype(int)
    rows = np.floor((north - top + step * (np.arange(256) + 0.5)) / pixel_m).astype(int)
    inside = ((rows >= 0) & (rows < side))[:, None] & ((cols >= 0) & (cols < side))
    assert inside.sum() > 50_000
    expected = values[rows.clip(0, side - 1)][:, cols.clip(0, side - 1)]
    assert np.array_equal(drawn[..., 0][inside], expected[inside])
    assert not drawn[~inside].any()

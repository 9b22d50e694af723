"""A build changes nothing that one sees: bounds, tiles and thumbnails before it and after it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.warp import transform_bounds
from tests.raster.rasters import Pixels, write_raster

from aerotask.derivatives.cog import build_cog
from aerotask.derivatives.overviews import build_overviews
from aerotask.raster.io import GDAL_OPTIONS
from aerotask.tiles.dataset_cache import DatasetCache, RasterFiles
from aerotask.tiles.raster_tiles import MapRaster, draw_thumbnail, draw_tile, read_render_info
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


@pytest.fixture
def rasters() -> Iterator[DatasetCache]:
    with rasterio.Env(**GDAL_OPTIONS), DatasetCache() as cache:
        yield cache


def hills(bands: int, dtype: Any, *, rows: int = 500, cols: int = 600, high: int = 250) -> Pixels:
    """Smooth hills with an empty (0) corner."""
    y, x = np.mgrid[:rows, :cols]
    waves = np.stack([np.sin(x / (90 + 9 * band)) + np.cos(y / (70 + 5 * band)) for band in range(bands)])
    pixels = (1 + (waves + 2) / 4 * (high - 1)).astype(dtype)
    pixels[:, : rows // 4, : cols // 4] = 0
    return pixels


def with_transparent_corner(pixels: Pixels) -> Pixels:
    alpha = np.where(pixels[:1] == 0, 0, 255).astype(np.uint8)
    return np.concatenate([pixels, alpha])


CASES: dict[str, dict[str, Any]] = {
    "uint16 with nodata": {"pixels": hills(4, np.uint16, high=60_000), "nodata": 0},
    "colours with alpha": {
        "pixels": with_transparent_corner(hills(3, np.uint8)),
        "colours": RGBA,
        "photometric": "RGB",
        "alpha": "unspecified",
    },
    "a mask of its own": {
        "pixels": hills(2, np.uint8),
        "mask": np.where(hills(1, np.uint8)[0] > 100, 255, 0).astype(np.uint8),
    },
    "a mask that overrules nodata": {
        "pixels": np.where(
            hills(3, np.uint8, rows=700, cols=900) % 7 == 0, 0, hills(3, np.uint8, rows=700, cols=900)
        ),
        "mask": np.where(np.mgrid[:700, :900][1] < 200, 0, 255).astype(np.uint8),
        "nodata": 0,
    },
    "floats with NaN": {
        "pixels": np.where(hills(2, np.float32) == 0, np.nan, hills(2, np.float32)),
        "nodata": float("nan"),
    },
    "large with odd sides": {"pixels": hills(1, np.uint8, rows=1543, cols=2601), "nodata": 0},
    "one own overview, too large": {
        "pixels": hills(1, np.uint16, rows=2050, cols=2100),
        "nodata": 0,
        "overviews": [2],
    },
    "own overviews of nearest pixels": {"pixels": hills(1, np.uint16), "nodata": 0, "overviews": [2, 4]},
    "rotated": {"pixels": hills(1, np.float32), "transform": Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000)},
    "south-up in degrees": {
        "pixels": hills(1, np.uint8),
        "crs": "EPSG:4326",
        "transform": Affine(5e-6, 0, 7, 0, 5e-6, 50),
    },
    "mirrored in degrees": {
        "pixels": hills(1, np.uint8),
        "crs": "EPSG:4326",
        "transform": Affine(-5e-6, 0, 7, 0, -5e-6, 50),
    },
}
# Left, bottom, right and top in the raster's own CRS, by hand.
UTM_BOUNDS = (500_000, 4_999_750, 500_300, 5_000_000)
BOUNDS = {
    "a mask that overrules nodata": (500_000, 4_999_650, 500_450, 5_000_000),
    "large with odd sides": (500_000, 4_999_228.5, 501_300.5, 5_000_000),
    "one own overview, too large": (500_000, 4_998_975, 501_050, 5_000_000),
    "rotated": (500_000, 4_999_800, 500_390, 5_000_180),
    "south-up in degrees": (7, 50, 7.003, 50.0025),
    "mirrored in degrees": (6.997, 49.9975, 7, 50),
}


def tiles_at(bounds: tuple[float, float, float, float], z: int) -> list[TileIndex]:
    """The tile in the middle of the bounds, and two that touch it at its corners."""
    west, south, east, north = bounds
    column = int(((west + east) / 2 + 180) / 360 * 2**z)
    row = next(y for y in range(2**z) if TileIndex(z, column, y).bounds_deg()[1] < (south + north) / 2)
    return [TileIndex(z, column + step, row + step) for step in (-1, 0, 1)]


def with_overviews(source: Path) -> RasterFiles:
    """The raster with the overviews that are made when it arrives."""
    made = source.with_suffix(".overviews.tif")
    build_overviews(source, made, threads=2)
    return RasterFiles(source, made)


@pytest.mark.parametrize("name", list(CASES))
def test_bounds_tiles_and_thumbnail_are_as_before(tmp_path: Path, rasters: DatasetCache, name: str) -> None:
    options = dict(CASES[name])
    source, cog = write_raster(tmp_path / "a.tif", options.pop("pixels"), **options), tmp_path / "a.cog.tif"
    build_cog(source, cog, threads=2, on_progress=lambda _share: None)
    before = read_render_info(rasters, source, source, Style())
    after = read_render_info(rasters, source, cog, Style())
    crs = options.get("crs", "EPSG:32632")
    expected = transform_bounds(crs, "EPSG:4326", *BOUNDS.get(name, UTM_BOUNDS))
    assert before.require_bounds() == pytest.approx(expected, abs=1e-9)
    assert after == before
    files = RasterFiles(source) if options.get("overviews") == [2, 4] else with_overviews(source)
    drawn = 0
    for z in range(before.max_zoom + 1):
        for tile in tiles_at(expected, z):
            was, now = (
                draw_tile(rasters, MapRaster(each, info, Style()), tile, size_px=256)
                for each, info in ((files, before), (RasterFiles(cog), after))
            )
            np.testing.assert_array_equal(now, was)
            drawn += int(np.count_nonzero(now[..., 3]))
    assert drawn > 40_000
    was, now = (draw_thumbnail(rasters, source, each, size_px=200) for each in (files, RasterFiles(cog)))
    np.testing.assert_array_equal(now, was)


def test_the_bounds_are_those_of_the_source_whatever_tiles_are_read_from(
    tmp_path: Path, rasters: DatasetCache
) -> None:
    """An older derivative was warped to the web map's grid, with a margin around it."""
    source = write_raster(tmp_path / "a.tif", hills(1, np.uint8))
    older = write_raster(
        tmp_path / "b.tif",
        hills(1, np.uint8),
        crs="EPSG:3857",
        transform=Affine(2, 0, 1_001_000, 0, -2, 5_650_000),
    )
    expected = transform_bounds("EPSG:32632", "EPSG:4326", *UTM_BOUNDS)
    assert read_render_info(rasters, source, older, Style()).bounds == pytest.approx(expected, abs=1e-9)

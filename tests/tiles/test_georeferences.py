"""Rasters placed by control points, RPCs or odd CRSs: index, TileJSON and build have one opinion, and tiles are right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.transform import from_bounds
from rasterio.warp import Resampling, reproject
from tests.raster.georeference.places import (
    PLACES,
    SHAPE,
    bent_points,
    by_control_points,
    by_rpc,
    camera_model,
    corner_points,
    numbered_pixels,
)
from tests.raster.rasters import write_raster
from tests.tiles.test_nearest_pixels import drawn_numbers, tile_at

from aerotask.derivatives.cog import build_cog
from aerotask.domain.errors import InvalidInput
from aerotask.metadata.raster import extract_raster
from aerotask.raster.io import GDAL_OPTIONS
from aerotask.tiles.dataset_cache import DatasetCache, RasterFiles
from aerotask.tiles.raster_tiles import draw_thumbnail, read_render_info
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

NEAREST_SHARE = 0.95
"""GDAL's own warp errs by up to an eighth of a pixel, so some of its pixels are neighbours of the nearest."""


@pytest.fixture
def rasters() -> Iterator[DatasetCache]:
    with rasterio.Env(**GDAL_OPTIONS), DatasetCache() as opened:
        yield opened


def warped_numbers(tile: TileIndex, **georeference: Any) -> Any:
    """The numbers of the pixels that GDAL's own warp shows."""
    numbers = np.arange(1, SHAPE[0] * SHAPE[1] + 1, dtype=np.float64).reshape(SHAPE)
    target = np.full((256, 256), -1, np.float64)
    reproject(
        numbers,
        target,
        dst_transform=from_bounds(*tile.bounds_m(), 256, 256),
        dst_crs="EPSG:3857",
        dst_nodata=-1,
        resampling=Resampling.nearest,
        **georeference,
    )
    return target.astype(np.int64)


GEOREFERENCES: dict[str, tuple[Any, dict[str, Any], tuple[float, float]]] = {
    # Each with its writer, the arguments of GDAL's warp, and a place within it in degrees.
    "corners": (
        lambda path: by_control_points(path, corner_points(), "EPSG:32632"),
        {"gcps": corner_points(), "src_crs": "EPSG:32632"},
        (10.2733, 45.1457),
    ),
    "bent": (
        lambda path: by_control_points(path, bent_points(), "EPSG:32632"),
        {"gcps": bent_points(), "src_crs": "EPSG:32632"},
        (10.2733, 45.1457),
    ),
    "rpc": (
        lambda path: by_rpc(path, camera_model()),
        {"rpcs": camera_model(), "src_crs": "EPSG:4326", "RPC_HEIGHT": 400},
        (10.0, 45.0),
    ),
}


def places_of(numbers: Any) -> tuple[Any, Any]:
    """Rows and columns of numbered pixels."""
    return np.divmod(numbers - 1, SHAPE[1])


@pytest.mark.parametrize("zoom", [17, 19])
@pytest.mark.parametrize("name", GEOREFERENCES)
def test_tiles_show_what_the_warp_of_gdal_does(
    tmp_path: Path, rasters: DatasetCache, name: str, zoom: int
) -> None:
    write, georeference, place = GEOREFERENCES[name]
    tile = tile_at(place, zoom)
    drawn = drawn_numbers(rasters, write(tmp_path / "a.tif"), tile)
    expected = warped_numbers(tile, **georeference)
    assert (expected > 0).mean() > 0.3
    assert (drawn == expected).mean() >= NEAREST_SHARE
    inside = (drawn > 0) & (expected > 0)
    apart = [np.abs(one - other) for one, other in zip(*map(places_of, (drawn, expected)), strict=True)]
    assert np.max(apart, where=inside, initial=0) <= 1


def test_control_points_of_a_grid_are_as_exact_as_its_transform(
    tmp_path: Path, rasters: DatasetCache
) -> None:
    path = by_control_points(tmp_path / "a.tif", corner_points(), "EPSG:32632")
    grid = rasterio.transform.from_origin(600_000, 5_000_000, 0.5, 0.5)
    twin = write_raster(
        tmp_path / "b.tif",
        numbered_pixels(),
        transform=grid,
        colours=(
            rasterio.enums.ColorInterp.red,
            rasterio.enums.ColorInterp.green,
            rasterio.enums.ColorInterp.blue,
        ),
    )
    tile = tile_at((10.2733, 45.1457), 19)
    drawn = drawn_numbers(rasters, path, tile)
    assert (drawn > 0).any()
    assert (drawn == drawn_numbers(rasters, twin, tile)).mean() > 0.999
    found, expected = (read_render_info(rasters, each, each, Style()) for each in (path, twin))
    assert found.require_bounds() == pytest.approx(expected.require_bounds(), abs=1e-7)
    assert found.max_zoom == expected.max_zoom


@pytest.mark.parametrize("name", GEOREFERENCES)
def test_a_build_keeps_the_georeference_and_what_tiles_show(
    tmp_path: Path, rasters: DatasetCache, name: str
) -> None:
    write, _, place = GEOREFERENCES[name]
    source, cog = write(tmp_path / "a.tif"), tmp_path / "cog.tif"
    properties = build_cog(source, cog, threads=1, on_progress=lambda _share: None)
    with rasterio.open(source) as before, rasterio.open(cog) as after:
        assert [(each.row, each.col, each.x, each.y) for each in before.gcps[0]] == [
            (each.row, each.col, each.x, each.y) for each in after.gcps[0]
        ]
        assert (before.gcps[1], before.rpcs) == (after.gcps[1], after.rpcs)
        np.testing.assert_array_equal(before.read(), after.read())
    assert properties["bands"][2]["max"] == 255
    tile = tile_at(place, 19)
    np.testing.assert_array_equal(drawn_numbers(rasters, source, tile), drawn_numbers(rasters, cog, tile))
    assert draw_thumbnail(rasters, source, RasterFiles(cog), size_px=64).shape == (48, 64, 4)


def test_the_footprint_follows_the_control_points(tmp_path: Path) -> None:
    found = extract_raster(by_control_points(tmp_path / "a.tif", corner_points(), "EPSG:32632"))
    assert found.profile.georeferenced_by == "control-points"
    assert found.extras["controlPoints"] == {"count": 4, "crs": "EPSG:32632"}
    assert found.footprint is not None
    to_degrees = pyproj.Transformer.from_crs(32632, 4326, always_xy=True)
    corner = to_degrees.transform(600_200, 5_000_000)
    ring = np.array(found.footprint["coordinates"][0])
    assert np.abs(ring - corner).sum(axis=1).min() < 1e-8


def test_an_rpc_raster_is_where_its_model_says_at_its_own_height(
    tmp_path: Path, rasters: DatasetCache
) -> None:
    path = by_rpc(tmp_path / "a.tif", camera_model(179.9995, -16.0))
    found = extract_raster(path)
    assert found.profile.georeferenced_by == "rpc"
    assert found.footprint is not None
    assert found.footprint["type"] == "MultiPolygon"  # cut at the antimeridian
    assert found.centre is not None
    assert found.centre["coordinates"] == pytest.approx([179.9995, -16.0], abs=1e-5)
    west = drawn_numbers(rasters, path, tile_at((179.9999, -16.0), 18))
    east = drawn_numbers(rasters, path, tile_at((-179.9999, -16.0), 18))
    assert (west > 0).any()
    assert (east > 0).any()


@pytest.mark.parametrize("name", PLACES)
def test_index_tilejson_and_build_have_one_opinion(tmp_path: Path, rasters: DatasetCache, name: str) -> None:
    crs, grid, shown = PLACES[name]
    path = write_raster(tmp_path / "a.tif", numbered_pixels(), crs=crs, transform=grid)
    found = extract_raster(path)
    info = read_render_info(rasters, path, path, Style())
    assert (found.is_georeferenced, info.bounds is not None) == (shown, shown)
    if not shown:
        with pytest.raises(InvalidInput) as refused:
            build_cog(path, tmp_path / "cog.tif", threads=1, on_progress=lambda _share: None)
        assert refused.value.code == "not-georeferenced"
        assert refused.value.message == info.unplaced_because == found.extras["warnings"][0]
        return
    assert build_cog(path, tmp_path / "cog.tif", threads=1, on_progress=lambda _share: None)["width"] == 400
    west, south, east, north = info.require_bounds()
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90


@pytest.mark.parametrize(
    ("points", "crs", "words"),
    [
        (corner_points()[:2], "EPSG:32632", "It has 2 control points; at least 3 are needed"),
        (corner_points(), None, "It has 4 control points without a coordinate system"),
        ([corner_points()[0]] * 4, "EPSG:32632", "Its control points or RPCs can't be used"),
    ],
)
def test_control_points_that_say_too_little_are_refused_with_the_reason(
    tmp_path: Path, rasters: DatasetCache, points: Any, crs: str | None, words: str
) -> None:
    path = by_control_points(tmp_path / "a.tif", points, crs)
    with pytest.raises(InvalidInput, match=words) as refused:
        read_render_info(rasters, path, path, Style()).require_bounds()
    assert refused.value.code == "not-georeferenced"
    found = extract_raster(path)
    assert (found.footprint, found.extras["warnings"]) == (None, [refused.value.message])

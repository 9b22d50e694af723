"""Tile rendering in this process, compared with literal pixels and with the output of raster-export."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_bounds, from_origin
from tests.raster.rasters import export, read, slope, write_raster
from tests.tiles.maps import AT, BLACK, GREEN, NOTHING, RED, WHITE, halves, on_tile

from aerotask.domain.errors import InvalidInput
from aerotask.raster.io import GDAL_OPTIONS
from aerotask.tiles.dataset_cache import DatasetCache, RasterFiles
from aerotask.tiles.raster_tiles import MapRaster, draw_tile, read_render_info
from aerotask.tiles.render_info import RenderInfo
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

Rgba = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def rasters() -> Iterator[DatasetCache]:
    with rasterio.Env(**GDAL_OPTIONS), DatasetCache() as opened:
        yield opened


def tile(
    rasters: DatasetCache, path: Path, index: TileIndex = AT, *, size_px: int = 256, **style: Any
) -> Rgba:
    chosen = Style(**style)
    info = read_render_info(rasters, path, path, chosen)
    return draw_tile(rasters, MapRaster(RasterFiles(path), info, chosen), index, size_px=size_px)


def test_constant_areas_have_the_literal_colours_of_the_colormap(
    tmp_path: Path, rasters: DatasetCache
) -> None:
    path = on_tile(tmp_path / "a.tif", halves(-5, 5))
    drawn = tile(rasters, path, rescale="-1,1", bands="1", colormap="rdylgn")
    assert drawn.shape == (256, 256, 4)
    assert (drawn[:, :128] == RED).all()
    assert (drawn[:, 128:] == GREEN).all()


@pytest.mark.parametrize(
    "style",
    [
        {"formula": "(b2-b1)/(b2+b1)"},
        {"formula": "NDVI", "bandFilter": "RN", "colormap": "viridis"},
        {"bands": "2"},
        {"bands": "2,1,1", "rescale": "100,250;90,200;0,300"},
        {"preset": "ironbow"},
    ],
)
def test_a_tile_on_the_grid_of_the_raster_equals_the_export(
    tmp_path: Path, rasters: DatasetCache, style: dict[str, Any]
) -> None:
    path = on_tile(tmp_path / "a.tif", slope((256, 256)), nodata=150.0)
    exported = tmp_path / "exported.tif"
    export(path, exported, **style)
    assert np.array_equal(tile(rasters, path, **style), np.moveaxis(read(exported), 0, -1))


def test_every_tile_has_the_value_range_of_the_whole_raster(tmp_path: Path, rasters: DatasetCache) -> None:
    pixels = np.repeat(np.arange(512, dtype=np.float32)[None, None, :], 256, axis=1)
    west, south, east, north = AT.bounds_m()
    grid = from_bounds(west, south, 2 * east - west, north, 512, 256)
    path = write_raster(tmp_path / "a.tif", pixels, crs="EPSG:3857", transform=grid)
    info = read_render_info(rasters, path, path, Style())
    assert (info.ranges[0].low, info.ranges[0].high) == (10, 501)
    export(path, tmp_path / "exported.tif")
    whole = np.moveaxis(read(tmp_path / "exported.tif"), 0, -1)
    for number in (0, 1):
        drawn = tile(rasters, path, TileIndex(AT.z, AT.x + number, AT.y))
        assert np.array_equal(drawn, whole[:, 256 * number : 256 * (number + 1)])


def test_a_tile_is_transparent_outside_the_raster(tmp_path: Path, rasters: DatasetCache) -> None:
    west, _, _, north = AT.bounds_m()
    side = (AT.bounds_m()[2] - west) / 256
    path = write_raster(
        tmp_path / "a.tif",
        np.full((1, 100, 60), 5, np.float32),
        crs="EPSG:3857",
        transform=from_origin(west, north, side, side),
    )
    drawn = tile(rasters, path, rescale="-1,1")
    assert (drawn[:100, :60] == WHITE).all()
    assert (drawn[100:] == 0).all()
    assert (drawn[:, 60:] == 0).all()


def test_nodata_nan_and_small_denominators_are_transparent(tmp_path: Path, rasters: DatasetCache) -> None:
    pixels = np.stack([np.full((256, 256), 1.0), np.full((256, 256), 3.0)]).astype(np.float32)
    pixels[0, 0, 0] = -99
    pixels[1, 0, 1] = np.nan
    pixels[:, 0, 2] = [-2, 2]
    path = on_tile(tmp_path / "a.tif", pixels, nodata=-99)
    drawn = tile(rasters, path, formula="(b2-b1)/(b2+b1)", rescale="-1,0.5")
    assert drawn[0, :4].tolist() == [NOTHING, NOTHING, NOTHING, GREEN]


def test_alpha_and_masks_are_kept(tmp_path: Path, rasters: DatasetCache) -> None:
    alpha = np.full((256, 256), 255, np.uint8)
    alpha[0, 0] = 0
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    rgba = np.stack([np.full((256, 256), value, np.uint8) for value in (10, 20, 30)] + [alpha])
    path = on_tile(tmp_path / "rgba.tif", rgba, colours=colours)
    assert tile(rasters, path)[0, :2].tolist() == [NOTHING, [10, 20, 30, 255]]
    assert tile(rasters, path, bands="1", rescale="0,5")[0, :2].tolist() == [NOTHING, WHITE]
    masked = on_tile(tmp_path / "masked.tif", halves(5, 5), mask=alpha)
    assert tile(rasters, masked, rescale="-1,1")[0, :2].tolist() == [NOTHING, WHITE]


@pytest.mark.parametrize("style", [{}, {"bands": "1"}])
def test_a_palette_raster_has_the_colours_of_its_export(
    tmp_path: Path, rasters: DatasetCache, style: dict[str, Any]
) -> None:
    source = on_tile(tmp_path / "a.tif", halves(1, 2, dtype="uint8"), nodata=2)
    with rasterio.open(source, "r+") as target:
        target.write_colormap(1, {1: (10, 120, 30, 255), 2: (9, 9, 9, 255)})
    export(source, tmp_path / "export.tif", **style)
    drawn = tile(rasters, source, **style)
    assert drawn[0, [0, 200]].tolist() == [[10, 120, 30, 255], NOTHING]
    assert np.array_equal(drawn, np.moveaxis(read(tmp_path / "export.tif"), 0, -1))


def test_a_palette_without_a_colour_table_is_shown_in_greys(tmp_path: Path, rasters: DatasetCache) -> None:
    pixels = halves(0, 200, dtype="uint8")
    path = on_tile(tmp_path / "a.tif", pixels, colours=(ColorInterp.palette,))
    assert tile(rasters, path)[0, [0, -1]].tolist() == [BLACK, WHITE]


def test_an_rgb_image_is_shown_as_it_is_without_a_style(tmp_path: Path, rasters: DatasetCache) -> None:
    levels = np.arange(256, dtype=np.uint8)
    rgb = np.stack([np.tile(levels, (256, 1)), np.tile(levels[:, None], 256), np.full((256, 256), 7)])
    path = on_tile(
        tmp_path / "rgb.tif",
        rgb.astype(np.uint8),
        colours=(ColorInterp.red, ColorInterp.green, ColorInterp.blue),
    )
    drawn = tile(rasters, path)
    assert np.array_equal(drawn[..., :3], np.moveaxis(rgb, 0, -1))
    assert (drawn[..., 3] == 255).all()


def test_a_result_of_raster_export_is_shown_as_it_is(tmp_path: Path, rasters: DatasetCache) -> None:
    """RGBA and palette results, whose colours are the same except for the lowest."""
    source = on_tile(tmp_path / "a.tif", slope((256, 256)) + 50, nodata=160.0)
    export(source, tmp_path / "rgba.tif", formula="b1", rescale="100,250")
    export(source, tmp_path / "palette.tif", formula="b1", rescale="100,250", format="palette")
    expected = tile(rasters, source, formula="b1", rescale="100,250")
    assert np.array_equal(tile(rasters, tmp_path / "rgba.tif"), expected)
    assert np.array_equal(tile(rasters, tmp_path / "palette.tif"), expected)


def test_a_tile_of_another_resolution_has_the_nearest_pixels(tmp_path: Path, rasters: DatasetCache) -> None:
    path = on_tile(tmp_path / "a.tif", halves(-5, 5))
    upper_right = TileIndex(AT.z + 1, 2 * AT.x + 1, 2 * AT.y)
    assert (tile(rasters, path, upper_right, rescale="-1,1") == WHITE).all()
    twice = tile(rasters, path, size_px=512, rescale="-1,1")
    assert (twice[:, :256] == BLACK).all()
    assert (twice[:, 256:] == WHITE).all()


def test_tiles_of_lower_zooms_come_from_overviews(tmp_path: Path, rasters: DatasetCache) -> None:
    side = 1024
    pixels = np.zeros((1, side, side), np.uint8)
    pixels[:, ::2, ::2] = 200
    west, _, east, north = AT.bounds_m()
    grid = from_bounds(west, north - 4 * (east - west), west + 4 * (east - west), north, side, side)
    path = write_raster(
        tmp_path / "a.tif",
        pixels,
        crs="EPSG:3857",
        transform=grid,
        tiled=True,
        blockxsize=256,
        blockysize=256,
    )
    with rasterio.open(path, "r+") as target:
        target.build_overviews([2, 4], rasterio.enums.Resampling.average)
    drawn = tile(
        rasters, path, TileIndex(AT.z - 2, AT.x // 4, AT.y // 4), colormap="grayscale", rescale="0,255"
    )
    assert np.unique(drawn[..., 0]).tolist() == [50]


def test_a_raster_in_another_crs_is_at_its_place(tmp_path: Path, rasters: DatasetCache) -> None:
    pixels = np.full((1, 400, 400), 5, np.float32)
    path = write_raster(tmp_path / "a.tif", pixels)
    info = read_render_info(rasters, path, path, Style(rescale="-1,1"))
    assert info.bounds == pytest.approx((9.0, 45.1514, 9.00256, 45.1532), abs=1e-3)
    west, south, east, north = info.require_bounds()
    assert info.max_zoom == 18
    z = 18
    x = int((0.5 * (west + east) + 180) / 360 * 2**z)
    y = next(y for y in range(2**z) if TileIndex(z, x, y).bounds_deg()[1] < 0.5 * (south + north))
    drawn = tile(rasters, path, TileIndex(z, x, y), rescale="-1,1")
    assert WHITE in drawn.reshape(-1, 4).tolist()
    assert set(map(tuple, drawn.reshape(-1, 4).tolist())) <= {tuple(WHITE), tuple(NOTHING)}


@pytest.mark.parametrize(
    ("west_deg", "bounds"),
    [(200, (-160, 40, -156, 44)), (-170, (-170, 40, -166, 44)), (178, (-180, 40, 180, 44))],
)
def test_bounds_are_longitudes_from_minus_180_to_180(
    tmp_path: Path, rasters: DatasetCache, west_deg: float, bounds: tuple[float, ...]
) -> None:
    transform = from_origin(west_deg, 44, 0.01, 0.01)
    path = write_raster(
        tmp_path / "a.tif", np.ones((1, 400, 400), np.uint8), crs="EPSG:4326", transform=transform
    )
    info = read_render_info(rasters, path, path, Style(rescale="0,1"))
    assert info.require_bounds() == pytest.approx(bounds, abs=1e-9)


LOCAL = CRS.from_wkt('LOCAL_CS["plant",UNIT["metre",1]]')


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"crs": None, "transform": None}, "Put a world file and a .prj file beside it, or assign"),
        ({"transform": None}, "It has a coordinate system but no position; put a world file beside it"),
        ({"crs": None}, "Its transform is in an unknown coordinate system; put a .prj file beside it"),
        (
            {"crs": LOCAL},
            "Its coordinate system is a local or geocentric one, which has no known relation to maps",
        ),
    ],
)
def test_a_raster_without_georeference_has_render_info_but_no_bounds(
    tmp_path: Path, rasters: DatasetCache, options: dict[str, Any], why: str
) -> None:
    path = write_raster(tmp_path / "a.tif", halves(0, 1), **options)
    with pytest.raises(InvalidInput) as refused:
        read_render_info(rasters, path, path, Style()).require_bounds()
    assert refused.value.code == "not-georeferenced"
    start = "The raster is not georeferenced, so it can't be shown on a map. "
    assert refused.value.message.startswith(start + why)


def test_render_info_survives_its_json(tmp_path: Path, rasters: DatasetCache) -> None:
    path = on_tile(tmp_path / "a.tif", halves(0, 1), nodata=float("nan"))
    info = read_render_info(rasters, path, path, Style())
    again = RenderInfo.from_json(info.to_json())
    assert again.to_json() == info.to_json()
    assert again.bounds == info.bounds


@pytest.mark.parametrize(
    ("style", "code"),
    [
        ({"formula": "EVI2"}, "unknown-formula"),
        ({"formula": "NDVI"}, "missing-bands"),
        ({"bands": "9"}, "band-out-of-range"),
        ({"colormap": "none"}, "values-not-shown"),
        ({"colormap": "mud"}, "unknown-colormap"),
        ({"rescale": "1"}, "invalid-rescale"),
        ({"preset": "prettier"}, "unknown-preset"),
    ],
)
def test_an_invalid_style_has_the_error_code_of_raster_export(
    tmp_path: Path, rasters: DatasetCache, style: dict[str, Any], code: str
) -> None:
    path = on_tile(tmp_path / "a.tif", halves(0, 1))
    with pytest.raises(InvalidInput) as refused:
        read_render_info(rasters, path, path, Style(**style))
    assert refused.value.code == code


def test_tiles_come_from_the_cog_and_their_value_range_from_the_original(
    tmp_path: Path, rasters: DatasetCache
) -> None:
    """A COG on the web map's grid, as `build` makes it, which adds an alpha band to a raster without nodata."""
    source = write_raster(
        tmp_path / "a.tif", np.pad(halves(1, 2), ((0, 0), (128, 128), (128, 128)), mode="edge")
    )
    cog = tmp_path / "cog.tif"
    with rasterio.Env(GDAL_CACHEMAX=64):
        rasterio.shutil.copy(
            source,
            cog,
            driver="COG",
            tiling_scheme="GoogleMapsCompatible",
            resampling="nearest",
            compress="DEFLATE",
        )
    info = read_render_info(rasters, source, cog, Style())
    assert (info.ranges[0].low, info.ranges[0].high) == (1, 2)
    west, south, east, north = info.require_bounds()
    z = info.max_zoom
    side = 2**z
    column = int(((west + east) / 2 + 180) / 360 * side)
    row = next(y for y in range(side) if TileIndex(z, column, y).bounds_deg()[1] < (south + north) / 2)
    raster = MapRaster(RasterFiles(cog), info, Style())
    colours: set[tuple[int, ...]] = set()
    for x in (column - 1, column, column + 1):
        for y in (row - 1, row, row + 1):
            drawn = draw_tile(rasters, raster, TileIndex(z, x, y), size_px=256)
            colours |= set(map(tuple, drawn.reshape(-1, 4).tolist()))
    assert colours == {tuple(BLACK), tuple(WHITE), tuple(NOTHING)}

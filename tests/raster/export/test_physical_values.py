"""Scale and offset of bands: physical values in exports and tiles, and the tags of raw ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.raster.rasters import Pixels, export, parse_options, read, source_file, write_raster
from tests.tiles.maps import AT, on_tile

from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.io import GDAL_OPTIONS
from aerotask.raster.profile import RasterProfile
from aerotask.tiles.dataset_cache import DatasetCache, RasterFiles
from aerotask.tiles.raster_tiles import MapRaster, draw_tile, read_render_info
from aerotask.tiles.style import Style

SCALES, OFFSETS = (0.0001, 0.0002, 1.0, 0.0001), (-0.1, 0.0, 0.0, -0.1)
NAMES = ("red", "green", "blue", "nir")


def numbers(shape_yx: tuple[int, int] = (40, 60)) -> Pixels:
    pixels = np.random.default_rng(1).integers(1000, 6000, (4, *shape_yx)).astype(np.uint16)
    pixels[:, 0, 0] = 0
    return pixels


def scaled(path: Path) -> Path:
    with rasterio.open(path, "r+") as target:
        target.scales, target.offsets = SCALES, OFFSETS
    return path


@pytest.fixture
def reflectances(tmp_path: Path) -> Path:
    return scaled(write_raster(tmp_path / "in.tif", numbers(), descriptions=NAMES, nodata=0))


def planned(path: Path, **parameters: Any) -> ExportPlan:
    return make_plan(parse_options(**parameters), source_file(path).profile)


def physical(band: int) -> Pixels:
    values: Pixels = numbers()[band - 1] * SCALES[band - 1] + OFFSETS[band - 1]
    return values


@pytest.mark.parametrize("unscale", [{}, {"unscale": "auto"}, {"unscale": "true"}, {"unscale": True}])
def test_an_index_is_computed_on_physical_values(
    tmp_path: Path, reflectances: Path, unscale: dict[str, Any]
) -> None:
    export(reflectances, tmp_path / "out.tif", formula="NDVI", colormap="none", **unscale)
    expected = (physical(4) - physical(1)) / (physical(4) + physical(1))
    expected[0, 0] = np.nan  # nodata is a number of the file
    np.testing.assert_allclose(read(tmp_path / "out.tif")[0], expected, rtol=1e-4, atol=1e-5)


def test_an_index_can_be_computed_on_the_numbers(tmp_path: Path, reflectances: Path) -> None:
    export(reflectances, tmp_path / "out.tif", formula="NDVI", colormap="none", unscale=False)
    red, nir = numbers()[0].astype(float), numbers()[3].astype(float)
    red[0, 0] = np.nan
    np.testing.assert_allclose(read(tmp_path / "out.tif")[0], (nir - red) / (nir + red), rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "bands"),
    [({"bands": "4"}, [4]), ({"bands": "4,1,2"}, [4, 1, 2]), ({"formula": "b1"}, [1])],
)
def test_numbers_that_are_exported_keep_scale_and_offset(
    tmp_path: Path, reflectances: Path, parameters: dict[str, Any], bands: list[int]
) -> None:
    export(reflectances, tmp_path / "out.tif", colormap="none", unscale=False, **parameters)
    with rasterio.open(tmp_path / "out.tif") as opened:
        assert opened.scales == tuple(SCALES[band - 1] for band in bands)
        assert opened.offsets == tuple(OFFSETS[band - 1] for band in bands)
        assert opened.read()[:, 5, 7].tolist() == [numbers()[band - 1, 5, 7] for band in bands]


def test_physical_values_that_are_exported_have_no_scale(tmp_path: Path, reflectances: Path) -> None:
    export(reflectances, tmp_path / "out.tif", bands="4,1,2", colormap="none")
    with rasterio.open(tmp_path / "out.tif") as opened:
        assert (opened.scales, opened.offsets) == ((1, 1, 1), (0, 0, 0))
        found = opened.read()[:, 5, 7]
    np.testing.assert_allclose(found, [physical(band)[5, 7] for band in (4, 1, 2)], rtol=1e-5)


@pytest.mark.parametrize(
    "style", [{"formula": "NDVI"}, {"bands": "4"}, {"bands": "4,1,2"}, {"unscale": "false"}]
)
def test_a_tile_equals_the_export(tmp_path: Path, style: dict[str, Any]) -> None:
    source = scaled(on_tile(tmp_path / "a.tif", numbers((256, 256)), descriptions=NAMES, nodata=0))
    export(source, tmp_path / "out.tif", **style)
    chosen = Style(**style)
    with rasterio.Env(**GDAL_OPTIONS), DatasetCache() as rasters:
        info = read_render_info(rasters, source, source, chosen)
        drawn = draw_tile(rasters, MapRaster(RasterFiles(source), info, chosen), AT, size_px=256)
    assert np.array_equal(drawn, np.moveaxis(read(tmp_path / "out.tif"), 0, -1))


def test_the_choice_is_explained(tmp_path: Path, reflectances: Path) -> None:
    assert planned(reflectances, formula="(N-R)/G").reasons[-1] == (
        "Computing on physical values: number × 0.0001 - 0.1 (band 1, 4); number × 0.0002 + 0 (band 2)."
    )
    assert planned(reflectances, formula="N/R", unscale="false").reasons[-1] == (
        "Computing on the numbers in the file, without their scale and offset."
    )
    plain = write_raster(tmp_path / "plain.tif", numbers())
    assert planned(plain, bands="1").warnings == ()
    assert planned(plain, bands="1", unscale="true").warnings == (
        "'unscale' was ignored: the file gives neither scale nor offset for the bands that are used.",
    )


@pytest.mark.parametrize("formula", ["SAVI", "OSAVI", "EVI", "MSAVI2", "BAI", "100 SAVI"])
def test_an_index_for_reflectances_warns_of_numbers(reflectances: Path, formula: str) -> None:
    assert planned(reflectances, formula=formula).warnings == ()
    (warning,) = planned(reflectances, formula=formula, unscale="false").warnings
    assert warning.startswith(
        f"{formula} has constants for reflectances from 0 to 1, but the bands hold numbers"
    )
    assert planned(reflectances, formula="NDVI", unscale="false").warnings == ()


def test_scale_and_offset_are_in_the_index(reflectances: Path) -> None:
    profile = source_file(reflectances).profile
    bands = profile.to_properties()["bands"]
    assert [(band.get("scale"), band.get("offset")) for band in bands] == [
        (0.0001, -0.1),
        (0.0002, 0.0),
        (None, None),
        (0.0001, -0.1),
    ]
    assert RasterProfile.from_properties(profile.to_properties()) == profile

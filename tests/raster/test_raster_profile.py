"""Profiles in the index, and read from files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from tests.raster.rasters import slope, source_file, write_raster

from aerotask.raster.profile import BandProfile, RasterProfile


def test_a_profile_survives_the_index(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif", slope((301, 203)), descriptions=["red", "nir"], nodata=-9999, overviews=[2, 4]
    )
    profile = source_file(path).profile
    assert RasterProfile.from_properties(json.loads(json.dumps(profile.to_properties()))) == profile


@pytest.mark.parametrize("nodata", [math.nan, math.inf, -math.inf])
def test_nan_survives_the_index(nodata: float) -> None:
    band = BandProfile("float32", None, "gray", nodata)
    profile = RasterProfile(1, 1, (band,), None, None, (1, 1), (), "")
    kept = json.loads(json.dumps(profile.to_properties(), allow_nan=False))
    found = RasterProfile.from_properties(kept)
    assert found is not None
    assert str(found.bands[0].nodata) == str(nodata)


def test_the_header_is_read_completely(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif",
        np.zeros((2, 20, 32), np.int16),
        descriptions=["red", ""],
        colours=(ColorInterp.red, ColorInterp.alpha),
        nodata=-1,
        tiled=True,
        blockxsize=32,
        blockysize=16,
        tags={"TIFFTAG_SOFTWARE": "Flight\n1.0", "CAMERA_MODEL": "RedEdge-M", "STATISTICS_MEAN": "7"},
    )
    assert source_file(path).profile == RasterProfile(
        width=32,
        height=20,
        bands=(BandProfile("int16", "red", "red", -1.0), BandProfile("int16", None, "alpha", -1.0)),
        crs="EPSG:32632",
        geotransform=(500_000.0, 0.5, 0.0, 5_000_000.0, 0.0, -0.5),
        block_size=(32, 16),
        overview_sizes=(),
        metadata_text="CAMERA_MODEL=RedEdge-M TIFFTAG_SOFTWARE=Flight 1.0",
    )


def test_alpha_and_data_bands_are_distinguished(tmp_path: Path) -> None:
    colours = (ColorInterp.gray, ColorInterp.alpha)
    profile = source_file(
        write_raster(tmp_path / "in.tif", np.zeros((2, 3, 3), np.uint8), colours=colours)
    ).profile
    assert (profile.data_bands, profile.alpha_band) == ((1,), 2)


def test_a_crs_without_a_code_is_kept_as_wkt(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif", slope((3, 3)), crs="+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84 +units=m"
    )
    assert (source_file(path).profile.crs or "").startswith("PROJCS[")


def test_a_plain_image_has_neither_crs_nor_geotransform(tmp_path: Path) -> None:
    profile = source_file(write_raster(tmp_path / "in.tif", slope((3, 3)), crs=None, transform=None)).profile
    assert (profile.crs, profile.geotransform) == (None, None)


def test_a_rotated_grid_is_kept(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", slope((3, 3)), transform=Affine(0.4, 0.3, 7, 0.3, -0.4, 8))
    assert source_file(path).profile.geotransform == pytest.approx((7, 0.4, 0.3, 8, 0.3, -0.4))


@pytest.mark.parametrize(
    "properties", [{}, {"points": 7}, {"width": 3, "height": 4}, {"width": "wide", "height": 1, "bands": []}]
)
def test_other_properties_are_no_profile(properties: dict[str, object]) -> None:
    assert RasterProfile.from_properties(properties) is None


def test_the_cameras_name_is_found_in_xmp(real_data: Path) -> None:
    profile = source_file(real_data / "micasense" / "IMG_0000_1.tif").profile
    assert "micasense" in profile.metadata_text
    assert "BandName=Blue" in profile.metadata_text

"""Validity of pixels: nodata, masks, alpha, NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.enums import ColorInterp
from tests.raster.rasters import Pixels, source_file, write_raster

from aerotask.raster.io import open_raster
from aerotask.raster.pixels import CHUNK_PX, BandReader, native_nodata


def counted(path: Path, *bands: int) -> list[list[bool]]:
    """The validity of each pixel."""
    source = source_file(path)
    shape = (source.profile.height, source.profile.width)
    whole = (slice(0, shape[0]), slice(0, shape[1]))
    with open_raster(path) as opened:
        reader = BandReader(opened, source.profile, bands)
        block = reader.read(whole)
        flags = [chunk.valid.reshape(-1, shape[1]).copy() for chunk in reader.chunks(block, whole)]
    return [[bool(flag) for flag in row] for row in np.concatenate(flags)]


def row(*values: float, dtype: Any = np.uint8) -> Pixels:
    return np.array(values, dtype).reshape(1, 1, -1)


def test_nodata_of_any_used_band_invalidates_a_pixel(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", np.concatenate([row(0, 1, 1, 0), row(1, 0, 1, 0)]), nodata=0)
    assert counted(path, 1, 2) == [[False, False, True, False]]
    assert counted(path, 1) == [[False, True, True, False]]


def test_nan_and_infinity_are_invalid(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", row(1, np.nan, np.inf, -np.inf, 0, dtype=np.float32))
    assert counted(path, 1) == [[True, False, False, False, True]]


def test_nodata_may_be_nan(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", row(1, np.nan, dtype=np.float32), nodata=np.nan)
    assert counted(path, 1) == [[True, False]]


def test_float_nodata_is_compared_as_float32(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif", row(-3.4028234663852886e38, 0.1, 5, dtype=np.float32), nodata=0.1
    )
    assert counted(path, 1) == [[True, False, True]]


def test_alpha_zero_invalidates_a_pixel(tmp_path: Path) -> None:
    colours = (ColorInterp.gray, ColorInterp.alpha)
    path = write_raster(
        tmp_path / "in.tif", np.concatenate([row(5, 5, 5), row(0, 1, 255)]), colours=colours, alpha="YES"
    )
    assert counted(path, 1) == [[False, True, True]]


def test_an_internal_mask_invalidates_pixels(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", row(5, 6, 7), mask=np.array([[255, 0, 255]], np.uint8))
    assert counted(path, 1) == [[True, False, True]]


def test_a_mask_counts_in_the_place_of_the_nodata_value_as_in_gdal(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "in.tif", row(5, 6, 0), mask=np.array([[255, 0, 255]], np.uint8), nodata=0)
    assert counted(path, 1) == [[True, False, True]]
    with open_raster(path) as opened:
        assert opened.read_masks(1).tolist() == [[255, 0, 255]]


def test_without_any_of_them_every_pixel_is_valid(tmp_path: Path) -> None:
    assert counted(write_raster(tmp_path / "in.tif", row(0, 1, 255)), 1) == [[True, True, True]]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_pixel_type_is_read_as_float32(tmp_path: Path, dtype: str) -> None:
    path = write_raster(tmp_path / "in.tif", row(1, 100, 7, dtype=dtype), nodata=7)
    source = source_file(path)
    with open_raster(path) as opened:
        reader = BandReader(opened, source.profile, (1,))
        whole = (slice(0, 1), slice(0, 3))
        (chunk,) = reader.chunks(reader.read(whole), whole)
        assert chunk.planes[0].dtype == np.float32
        assert chunk.planes[0].tolist() == [1.0, 100.0, 7.0]
        assert chunk.valid.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("nodata", "dtype", "expected"),
    [
        (0.0, "uint8", 0),
        (-9999.0, "uint16", None),
        (0.5, "int16", None),
        (300.0, "uint8", None),
        (None, "uint8", None),
    ],
)
def test_a_nodata_value_that_no_pixel_can_have_is_none(
    nodata: float | None, dtype: str, expected: int | None
) -> None:
    assert native_nodata(nodata, np.dtype(dtype)) == expected


def test_a_large_block_is_split_into_chunks(tmp_path: Path) -> None:
    rows = CHUNK_PX // 512 + 3
    path = write_raster(tmp_path / "in.tif", np.ones((1, rows, 512), np.uint8))
    assert counted(path, 1) == [[True] * 512] * rows

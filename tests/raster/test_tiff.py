"""TIFF bytes: directories, headers, tiles and their predictor."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from tests.raster.rasters import read

from aerotask.raster.tiff.codec import TileLayout, decode, encode
from aerotask.raster.tiff.directory import (
    HEADER_BYTES,
    Field,
    FieldType,
    field,
    pack_directories,
    pack_header,
    parse_first_directory,
)
from aerotask.raster.tiff.template import Georeference, TemplateFields, template_fields
from aerotask.raster.tiff.writer import TiledTiff

RGBA = TileLayout((16, 32), np.dtype(np.uint32), 0)
PLACE = Georeference()


def test_a_classic_header_is_eight_bytes_and_padding() -> None:
    assert pack_header(big=False, first_directory=0x1234) == b"II*\0\x34\x12\0\0" + bytes(8)


def test_a_bigtiff_header_has_offsets_of_eight_bytes() -> None:
    assert pack_header(big=True, first_directory=0x1234) == b"II+\0\x08\0\0\0\x34\x12" + bytes(6)


def test_a_directory_is_sorted_and_keeps_small_values_inline() -> None:
    fields = [field(257, FieldType.LONG, 7), field(256, FieldType.SHORT, 1, 2)]
    assert pack_directories([fields], start=16, big=False) == struct.pack(
        "<H HHIHH HHII I", 2, 256, 3, 2, 1, 2, 257, 4, 1, 7, 0
    )


def test_values_that_do_not_fit_inline_follow_the_directory() -> None:
    content = pack_directories([[field(324, FieldType.LONG, 10, 20)]], start=16, big=False)
    assert content[:18] == struct.pack("<H HHII I", 1, 324, 4, 2, 16 + 18, 0)
    assert content[18:] == struct.pack("<II", 10, 20)


def test_each_directory_points_to_the_next() -> None:
    content = pack_directories(
        [[field(256, FieldType.LONG, 1)], [field(256, FieldType.LONG, 2)]], start=16, big=False
    )
    (following,) = struct.unpack_from("<I", content, 14)
    assert following % 8 == 0
    assert struct.unpack_from("<HHHII", content, following - 16)[4] == 2


codes = st.integers(1, 65535)
fields = st.lists(
    st.builds(
        Field,
        codes,
        st.just(int(FieldType.SHORT)),
        st.binary(min_size=2, max_size=40).map(lambda b: b[: len(b) // 2 * 2]),
    ),
    unique_by=lambda item: item.code,
    min_size=1,
)


@settings(max_examples=50, deadline=None)
@given(fields)
def test_a_directory_is_read_back(written: list[Field]) -> None:
    content = pack_header(big=False, first_directory=HEADER_BYTES) + pack_directories(
        [written], start=HEADER_BYTES, big=False
    )
    assert parse_first_directory(content) == {item.code: item for item in written}


@pytest.mark.parametrize("samples", [1, 3])
def test_float_tiles_survive_the_predictor(samples: int) -> None:
    layout = TileLayout((16, 32, samples), np.dtype(np.float32), np.nan)
    tile = np.random.default_rng(1).standard_normal(layout.shape).astype(np.float32)
    tile[3, 4] = np.nan
    np.testing.assert_array_equal(decode(encode(tile, level=4), layout), tile)


def test_colour_tiles_survive() -> None:
    tile = np.random.default_rng(2).integers(0, 2**32, RGBA.shape, dtype=np.uint32)
    np.testing.assert_array_equal(decode(encode(tile, level=4), RGBA), tile)


def rgba_model() -> tuple[Field, ...]:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    return template_fields(TemplateFields("uint8", ("r", "g", "b", "a"), colours=colours), PLACE)


def write(path: Path, *, classic_limit_bytes: int) -> np.ndarray:
    """A raster of 20 × 40 pixels in four tiles, one of them blank."""
    tiles = {
        (row, col): np.full(RGBA.shape, 0xFF000000 | row << 8 | col, np.uint32)
        for row, col in ((0, 0), (0, 1), (1, 0))
    }
    with TiledTiff(path, RGBA) as tiff:
        level = tiff.add_level((20, 40))
        for place, tile in tiles.items():
            tiff.put(level, place, tile)
        tiff.put_blank(level, (1, 1))
        size = tiff.finish(rgba_model(), classic_limit_bytes=classic_limit_bytes)
    assert size == path.stat().st_size
    expected = np.zeros((32, 64), np.uint32)
    for (row, col), tile in tiles.items():
        expected[row * 16 : row * 16 + 16, col * 32 : col * 32 + 32] = tile
    return expected[:20, :40].copy().view(np.uint8).reshape(20, 40, 4).transpose(2, 0, 1)


@pytest.mark.parametrize(("limit", "signature"), [(2**32, b"II*\0"), (1000, b"II+\0")])
def test_gdal_reads_classic_and_big_files_alike(tmp_path: Path, limit: int, signature: bytes) -> None:
    path = tmp_path / "out.tif"
    expected = write(path, classic_limit_bytes=limit)
    assert path.read_bytes()[:4] == signature
    np.testing.assert_array_equal(read(path), expected)


def test_blank_tiles_are_stored_once(tmp_path: Path) -> None:
    with TiledTiff(tmp_path / "out.tif", RGBA) as tiff:
        level = tiff.add_level((160, 320))
        for row in range(10):
            for col in range(10):
                tiff.put_blank(level, (row, col))
        assert len(set(level.offsets)) == 1
        assert tiff.get(level, (5, 5)) is None


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        TiledTiff(path, RGBA)
    assert path.read_bytes() == b"precious"


PLACES = {
    "north-up": Georeference("EPSG:32632", Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)),
    "south-up": Georeference("EPSG:32632", Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000)),
    "rotated": Georeference("EPSG:32632", Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000)),
    "pixel is point": Georeference("EPSG:4326", Affine(0.1, 0, 7, 0, -0.1, 50), area_or_point="Point"),
    "none": Georeference(),
}


@pytest.mark.parametrize("name", list(PLACES))
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_gdal_reads_the_georeference(tmp_path: Path, name: str) -> None:
    place = PLACES[name]
    path = tmp_path / "out.tif"
    with TiledTiff(path, RGBA) as tiff:
        tiff.put_blank(tiff.add_level((16, 32)), (0, 0))
        colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        tiff.finish(template_fields(TemplateFields("uint8", ("r", "g", "b", "a"), colours=colours), place))
    with rasterio.open(path) as opened:
        assert opened.crs == (place.crs and rasterio.crs.CRS.from_user_input(place.crs))
        assert opened.transform.almost_equals(place.transform or Affine.identity())
        assert opened.tags().get("AREA_OR_POINT") == (place.area_or_point or ("Area" if place.crs else None))
        assert opened.colorinterp == colours


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
def test_tiles_of_samples_survive_the_predictor(dtype: str) -> None:
    layout = TileLayout((16, 32, 3), np.dtype(dtype), 0)
    tile = np.random.default_rng(1).integers(0, 2**31, layout.shape).astype(dtype)
    assert (decode(encode(tile, level=4), layout) == tile).all()
    assert layout.predictor == (3 if dtype.startswith("float") else 2)

"""Export pipeline from a source to a GeoTIFF or COG, checked down to the pixels."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate
from tests.raster.rasters import (
    TWO_THREADS,
    Pixels,
    export,
    read,
    settled_plan,
    slope,
    source_file,
    write_raster,
)

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.write import ExportWriteOptions, Stage, export_image
from aerotask.sdk import Cancelled

NDVI: dict[str, Any] = {"formula": "NDVI", "bandFilter": "RN"}


def test_ndvi_has_the_colours_computed_by_hand(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", slope((260, 260)))
    target = tmp_path / "out.tif"
    export(source, target, **NDVI)
    pixels = read(target)
    assert pixels[:, 0, 0].tolist() == [204, 220, 120, 255]
    assert pixels[:, 100, 25].tolist() == [217, 221, 125, 255]
    assert pixels[:, 200, 50].tolist() == [225, 221, 128, 255]
    assert pixels[:, 251, 0].tolist() == [204, 220, 120, 255]


def test_the_index_into_the_colours_is_truncated(tmp_path: Path) -> None:
    values = np.array([[[0, 0.0039, 0.00393, 0.5, 0.999, 1, 2, -1]]], np.float32)
    source = write_raster(tmp_path / "in.tif", values)
    target = tmp_path / "out.tif"
    export(source, target, bands="1", colormap="grayscale", rescale="0,1")
    assert read(target)[0].tolist() == [[0, 0, 1, 127, 254, 255, 255, 0]]


def test_a_pixel_without_a_value_is_zero_in_all_bands(tmp_path: Path) -> None:
    pixels = np.array([[[0, 10, 10, 5]], [[10, 0, 10, 8]]], np.uint16)
    source = write_raster(tmp_path / "in.tif", pixels, nodata=0)
    target = tmp_path / "out.tif"
    assert export(source, target, **NDVI).valid_px == 2
    out = read(target)
    assert out[:, 0, 0].tolist() == out[:, 0, 1].tolist() == [0, 0, 0, 0]
    assert out[3, 0].tolist() == [0, 0, 255, 255]


def test_a_denominator_near_zero_gives_a_transparent_pixel(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.array([[[0, 1]], [[0, 1]]], np.uint16))
    target = tmp_path / "out.tif"
    export(source, target, **NDVI)
    assert read(target)[3].tolist() == [[0, 255]]


def test_each_of_three_bands_is_scaled_by_its_own_range(tmp_path: Path) -> None:
    pixels = np.array([[[0, 50, 100]], [[10, 15, 20]], [[7, 7, 9]]], np.uint8)
    source = write_raster(tmp_path / "in.tif", pixels)
    target = tmp_path / "out.tif"
    export(source, target, bands="1,2,3", rescale="0,100;10,20;8,9")
    assert read(target)[:, 0].tolist() == [[0, 127, 255], [0, 127, 255], [0, 0, 255], [255, 255, 255]]


def test_a_band_may_be_shown_twice(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.array([[[0, 100]], [[100, 0]]], np.uint8))
    target = tmp_path / "out.tif"
    export(source, target, bands="2,2,1", rescale="0,100")
    assert read(target)[:, 0].tolist() == [[255, 0], [255, 0], [0, 255], [255, 255]]


def test_values_are_float32_with_nan_as_nodata(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.array([[[1, 0]], [[3, 5]]], np.uint16), nodata=0)
    target = tmp_path / "out.tif"
    export(source, target, colormap="none", **NDVI)
    with rasterio.open(target) as opened:
        assert (opened.dtypes, opened.descriptions) == (("float32",), ("NDVI",))
        assert np.isnan(opened.nodata)
        assert opened.read(1)[0, 0] == 0.5
        assert np.isnan(opened.read(1)[0, 1])
        assert opened.read_masks(1).tolist() == [[255, 0]]


def test_three_bands_of_values_are_unchanged(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.int16).reshape(3, 2, 2)
    target = tmp_path / "out.tif"
    export(write_raster(tmp_path / "in.tif", pixels), target, bands="3,1,1", colormap="none")
    np.testing.assert_array_equal(read(target), pixels[[2, 0, 0]].astype(np.float32))


def test_a_palette_has_one_band_whose_entry_0_means_no_value(tmp_path: Path) -> None:
    values = np.array([[[0, 0.004, 0.5, 1, np.nan]]], np.float32)
    source = write_raster(tmp_path / "in.tif", values)
    target = tmp_path / "out.tif"
    export(source, target, bands="1", colormap="ironbow", rescale="0,1", format="palette")
    with rasterio.open(target) as opened:
        assert (opened.count, opened.colorinterp, opened.nodata) == (1, (ColorInterp.palette,), 0)
        assert opened.read(1).tolist() == [[1, 1, 127, 255, 0]]
        table = opened.colormap(1)
    assert (table[0], table[1], table[255]) == ((0, 0, 0, 0), (0, 0, 0, 255), (255, 255, 255, 255))
    assert table[127] == (218, 86, 46, 255)


def test_a_palette_shows_the_colours_of_the_rgba_export(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", slope((70, 90)))
    rgba, palette = tmp_path / "rgba.tif", tmp_path / "palette.tif"
    export(source, rgba, **NDVI)
    export(source, palette, format="palette", **NDVI)
    with rasterio.open(palette) as opened:
        table = np.array([opened.colormap(1)[entry] for entry in range(256)], np.uint8)
        np.testing.assert_array_equal(table[opened.read(1)].transpose(2, 0, 1), read(rgba))


def noisy(shape: tuple[int, int, int] = (3, 150, 230)) -> Pixels:
    pixels = np.random.default_rng(5).integers(0, 200, shape).astype(np.uint16)
    pixels[:, :40, :70] = 0
    return pixels


SHOWN: dict[str, dict[str, Any]] = {
    "index": NDVI,
    "composite": {"bands": "3,2,1"},
    "values": {"formula": "(b3-b1)/(b3+b1)", "colormap": "none"},
    "palette": {"formula": "b2/b1", "format": "palette"},
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 32},
    "strips": {"blockysize": 7},
    "one strip": {"blockysize": 150},
    "bands apart": {"tiled": True, "blockxsize": 48, "blockysize": 48, "interleave": "band"},
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("shown", list(SHOWN))
def test_any_window_size_gives_the_same_pixels(tmp_path: Path, shown: str, layout: str) -> None:
    source = write_raster(tmp_path / "in.tif", noisy(), nodata=0, **LAYOUTS[layout])
    whole = tmp_path / "whole.tif"
    export(source, whole, ExportWriteOptions(threads=1), **SHOWN[shown])
    for tile_px, unit_yx in ((512, None), (64, None), (64, (64, 64)), (16, (48, 112)), (32, (160, 256))):
        target = tmp_path / "out.tif"
        export(
            source, target, ExportWriteOptions(threads=3, tile_px=tile_px, unit_yx=unit_yx), **SHOWN[shown]
        )
        np.testing.assert_array_equal(read(target), read(whole))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 700), (700, 1), (16, 16), (17, 15), (512, 513), (3, 5000), (5000, 3)]
)
def test_rasters_of_any_size_and_shape_are_exported_completely(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(1).integers(1, 255, (1, *shape)).astype(np.uint8)
    source = write_raster(tmp_path / "in.tif", pixels)
    target = tmp_path / "out.tif"
    export(source, target, bands="1", colormap="grayscale", rescale="0,255")
    np.testing.assert_array_equal(read(target)[:3], np.repeat(pixels, 3, axis=0))


def test_the_result_has_the_georeference_of_the_source(tmp_path: Path) -> None:
    transform = Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_000_000)
    source = write_raster(tmp_path / "in.tif", slope((20, 30)), transform=transform, crs="EPSG:25833")
    target = tmp_path / "out.tif"
    export(source, target, **NDVI)
    with rasterio.open(target) as opened:
        assert opened.crs.to_epsg() == 25833
        assert opened.transform.almost_equals(transform)


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    points = [
        rasterio.control.GroundControlPoint(row, col, 7 + col, 50 - row) for row in (0, 9) for col in (0, 9)
    ]
    path, target = tmp_path / "in.tif", tmp_path / "out.tif"
    options = {"driver": "GTiff", "width": 10, "height": 10, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", gcps=points, crs="EPSG:4326", **options) as opened:
        opened.write(np.ones((1, 10, 10), np.uint8))
    export(path, target, bands="1")
    with rasterio.open(target) as opened:
        found, crs = opened.gcps
    assert [(point.row, point.col, point.x, point.y) for point in found] == [
        (point.row, point.col, point.x, point.y) for point in points
    ]
    assert crs.to_epsg() == 4326


def test_the_files_tags_describe_its_content(tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    export(write_raster(tmp_path / "in.tif", slope((9, 9))), target, **NDVI)
    with rasterio.open(target) as opened:
        tags = opened.tags()
        assert opened.profile["compress"] == "deflate"
        assert opened.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        assert opened.nodata is None
    assert (tags["AEROTASK_FORMULA"], tags["AEROTASK_COLORMAP"]) == ("(N-R)/(N+R)", "rdylgn")


def test_a_result_too_large_for_classic_tiff_becomes_a_bigtiff(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", slope((300, 200)))
    classic, big = tmp_path / "classic.tif", tmp_path / "big.tif"
    export(source, classic, ExportWriteOptions(threads=2, tile_px=64), **NDVI)
    export(source, big, ExportWriteOptions(threads=2, tile_px=64, classic_limit_bytes=10_000), **NDVI)
    assert (classic.read_bytes()[:4], big.read_bytes()[:4]) == (b"II*\0", b"II+\0")
    np.testing.assert_array_equal(read(big), read(classic))
    with rasterio.open(big) as opened:
        assert opened.overviews(1) == [2, 4, 8]


def test_empty_tiles_take_no_space(tmp_path: Path) -> None:
    pixels = np.zeros((1, 1024, 1024), np.uint8)
    pixels[0, 5, 5] = 1
    source = write_raster(tmp_path / "in.tif", pixels, nodata=0)
    target = tmp_path / "out.tif"
    written = export(source, target, ExportWriteOptions(threads=2, tile_px=64), bands="1")
    assert written.valid_px == 1
    assert written.size_bytes < 10_000


def test_progress_rises_from_stage_to_stage(tmp_path: Path) -> None:
    reports: list[tuple[Stage, float]] = []
    file = source_file(write_raster(tmp_path / "in.tif", slope((300, 200))))
    export_image(
        file,
        settled_plan(file, **NDVI),
        tmp_path / "out.tif",
        writing=ExportWriteOptions(threads=2, tile_px=64),
        on_progress=lambda stage, share: reports.append((stage, share)),
    )
    pixels = [share for stage, share in reports if stage == "pixels"]
    overviews = [share for stage, share in reports if stage == "overviews"]
    assert all(before < after for before, after in [*pairwise(pixels), *pairwise(overviews)])
    assert (pixels[-1], overviews[-1]) == (1.0, 1.0)
    assert reports.index(("pixels", 1.0)) == len(pixels) - 1


@pytest.mark.parametrize("stage", ["pixels", "overviews"])
def test_cancelling_stops_all_threads(tmp_path: Path, stage: Stage) -> None:
    def cancel(at: Stage, share: float) -> None:
        if at == stage and share > 0.1:
            raise Cancelled

    file = source_file(write_raster(tmp_path / "in.tif", slope((300, 200))))
    plan = settled_plan(file, **NDVI)
    writing = ExportWriteOptions(threads=2, tile_px=16)
    with pytest.raises(Cancelled):
        export_image(file, plan, tmp_path / "out.tif", writing=writing, on_progress=cancel)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("raster-")]


def test_a_source_truncated_in_its_pixels_is_damaged(tmp_path: Path) -> None:
    source = write_raster(
        tmp_path / "in.tif", noisy(), tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    whole = source.read_bytes()
    file = source_file(source)
    source.write_bytes(whole[: len(whole) // 2])
    plan = settled_plan(file, bands="1", rescale="0,1")
    with pytest.raises(InvalidInput, match="damaged or incomplete") as caught:
        export_image(file, plan, tmp_path / "out.tif", writing=TWO_THREADS, on_progress=lambda *_: None)
    assert caught.value.code == "damaged-raster"


@pytest.mark.parametrize("shape", [(1, 1), (700, 1), (20, 700), (600, 600)])
def test_rasters_of_any_shape_become_valid_cogs(tmp_path: Path, shape: tuple[int, int]) -> None:
    source = write_raster(tmp_path / "in.tif", slope(shape, bands=1))
    plain, cog = tmp_path / "plain.tif", tmp_path / "cog.tif"
    export(source, plain, rescale="100,300")
    export(source, cog, rescale="100,300", format="cog")
    assert cog_validate(cog, quiet=True)[:2] == (True, [])
    np.testing.assert_array_equal(read(cog), read(plain))


@pytest.mark.parametrize("shown", [NDVI, {"bands": "1,2,1", "colormap": "none"}])
def test_a_cog_differs_from_the_plain_file_only_in_its_layout(tmp_path: Path, shown: dict[str, str]) -> None:
    source = write_raster(tmp_path / "in.tif", slope((700, 600)))
    plain, cog = tmp_path / "plain.tif", tmp_path / "cog.tif"
    writing = ExportWriteOptions(threads=2, tile_px=256)
    sizes = [
        export(source, target, writing, format=format_, **shown).size_bytes
        for target, format_ in ((plain, "gtiff"), (cog, "cog"))
    ]
    assert [plain.stat().st_size, cog.stat().st_size] == sizes
    assert sorted(tmp_path.iterdir()) == [cog, source, plain]
    for level in (None, 0, 1):
        options = {} if level is None else {"overview_level": level}
        with rasterio.open(plain, **options) as expected, rasterio.open(cog, **options) as opened:
            assert str(opened.profile) == str(expected.profile)
            assert opened.tags() == expected.tags()
            assert opened.descriptions == expected.descriptions
            assert opened.colorinterp == expected.colorinterp
            np.testing.assert_array_equal(opened.read(), expected.read())
    with rasterio.open(cog) as opened:
        assert opened.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


WRITE_WITH_LIMIT = """
import resource, sys
from pathlib import Path
from tests.raster.rasters import export
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    export(Path(sys.argv[1]), Path(sys.argv[2]), formula="b2/b1", format=sys.argv[3])
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("format_", ["gtiff", "cog"])
def test_a_file_that_cannot_grow_raises_the_systems_error(tmp_path: Path, format_: str) -> None:
    source = write_raster(tmp_path / "in.tif", noisy((2, 600, 600)))
    command = [sys.executable, "-c", WRITE_WITH_LIMIT, str(source), str(tmp_path / "out.tif"), format_]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert (ended.stdout.strip(), ended.stderr) == (str(errno.EFBIG), "")

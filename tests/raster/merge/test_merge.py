"""Merged pixels: identical to the sources', for all windows, types and sizes."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate
from tests.raster.rasters import Pixels, read, write_raster

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.photos.exif import read_embedded
from aerotask.raster.io import open_raster
from aerotask.raster.merge.plan import MergePlan, OpticalCentrePx, plan_merge
from aerotask.raster.merge.run import read_source_band
from aerotask.raster.merge.write import MergeWriteOptions, merge_bands
from aerotask.raster.tiff.cog_layout import GHOST

UNPLACED: dict[str, Any] = {"crs": None, "transform": None}
NAMES = ("blue", "green", "red", "nir", "rededge")


def write_bands(folder: Path, pixels: Pixels, **options: Any) -> list[Path]:
    """One file for each band."""
    return [
        write_raster(folder / f"{name}.tif", plane[np.newaxis], **options)
        for name, plane in zip(NAMES, pixels, strict=False)
    ]


def planned(paths: list[Path], centres: list[OpticalCentrePx] | None = None) -> MergePlan:
    return plan_merge(
        [
            replace(read_source_band(path.name, path), centre=centres[at] if centres else None)
            for at, path in enumerate(paths)
        ]
    )


def merged(plan: MergePlan, target: Path, **writing: Any) -> Path:
    options = MergeWriteOptions(**({"threads": 2, "tile_px": 64} | writing))
    size_bytes = merge_bands(plan, target, writing=options, on_stage=lambda _stage, _share: None)
    assert target.stat().st_size == size_bytes
    assert [path.name for path in target.parent.glob("*.tiles")] == []
    return target


def noise(shape: tuple[int, int, int], dtype: str) -> Pixels:
    random = np.random.default_rng(4)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_pixel_equals_the_sources_in_every_type(tmp_path: Path, dtype: str) -> None:
    pixels = noise((3, 100, 150), dtype)
    result = merged(planned(write_bands(tmp_path, pixels)), tmp_path / "out.tif")
    back = read(result)
    assert back.dtype == pixels.dtype
    assert (back == pixels).all()


def test_nan_infinities_and_nodata_are_kept(tmp_path: Path) -> None:
    pixels = noise((2, 40, 40), "float32")
    pixels[:, 3, :4] = [np.nan, np.inf, -np.inf, -9999]
    paths = write_bands(tmp_path, pixels, nodata=-9999)
    result = merged(planned(paths), tmp_path / "out.tif")
    assert read(result).tobytes() == pixels.tobytes()
    with rasterio.open(result) as opened:
        assert opened.nodata == -9999


def test_gdal_recognises_the_cog_as_its_own(tmp_path: Path) -> None:
    result = merged(
        planned(write_bands(tmp_path, noise((5, 300, 170), "uint16"), nodata=0)), tmp_path / "out.tif"
    )
    assert cog_validate(str(result), strict=True) == (True, [], [])
    with rasterio.open(result) as opened:
        structure = opened.tags(ns="IMAGE_STRUCTURE")
        assert structure == {
            "COMPRESSION": "DEFLATE",
            "INTERLEAVE": "PIXEL",
            "LAYOUT": "COG",
            "PREDICTOR": "2",
        }
        assert opened.descriptions == NAMES
        assert opened.colorinterp == tuple(ColorInterp[name] for name in NAMES)
        assert (opened.nodata, str(opened.crs), opened.overviews(1)) == (0, "EPSG:32632", [2, 4, 8])
        assert opened.transform.to_gdal() == (500_000, 0.5, 0, 5_000_000, 0, -0.5)


@pytest.mark.parametrize(("classic_limit_bytes", "signature"), [(2**32, b"II*\0"), (0, b"II+\0")])
def test_the_ghost_area_and_the_tile_leaders_are_right(
    tmp_path: Path, classic_limit_bytes: int, signature: bytes
) -> None:
    pixels = noise((2, 100, 100), "uint16")
    plan = planned(write_bands(tmp_path, pixels))
    result = merged(plan, tmp_path / "out.tif", classic_limit_bytes=classic_limit_bytes)
    content = result.read_bytes()
    assert content.startswith(signature)
    assert content[16 if signature == b"II+\0" else 8 :].startswith(GHOST)
    assert (read(result) == pixels).all()
    assert cog_validate(str(result), strict=True) == (True, [], [])
    # Behind the directories, every tile stands between its size and its last four bytes, one behind the other.
    at, tiles = first_tile_of_the_overview(result) - 4, 0
    while at < len(content):
        (size,) = struct.unpack_from("<I", content, at)
        assert content[at + size : at + size + 4] == content[at + size + 4 : at + size + 8]
        at, tiles = at + 4 + size + 4, tiles + 1
    assert tiles == 5


def first_tile_of_the_overview(path: Path) -> int:
    """The offsets of the data: the smallest overview comes first."""
    with rasterio.open(path) as opened:
        assert len(opened.overviews(1)) == 1
        return int(opened.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=0))


@pytest.mark.parametrize("source", [{"tiled": True, "blockxsize": 32, "blockysize": 48}, {"blockysize": 7}])
def test_windowed_equals_whole(tmp_path: Path, source: dict[str, Any]) -> None:
    pixels = noise((3, 200, 330), "uint16")
    centres = [
        OpticalCentrePx("point", 165, 100),
        OpticalCentrePx("point", 171, 97),
        OpticalCentrePx("point", 150, 101),
    ]
    plan = planned(write_bands(tmp_path, pixels, **UNPLACED, **source), centres)
    whole = read(merged(plan, tmp_path / "whole.tif", tile_px=512, unit_yx=(512, 512)))
    for tile_px, unit_yx in ((16, (16, 16)), (64, (64, 320)), (32, (96, 32)), (64, None)):
        target = tmp_path / f"{tile_px}-{unit_yx}.tif"
        assert (read(merged(plan, target, tile_px=tile_px, unit_yx=unit_yx)) == whole).all()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    plan = planned(write_bands(tmp_path, noise((2, 500, 500), "uint16")))
    first, second = (merged(plan, tmp_path / f"{n}.tif", threads=n).read_bytes() for n in (1, 3))
    assert first == second


def test_each_band_keeps_its_scale_and_offset(tmp_path: Path) -> None:
    paths = write_bands(tmp_path, noise((2, 40, 50), "uint16"))
    for path, scale, offset in zip(paths, (0.0001, 0.001), (0.0, 0.5), strict=True):
        with rasterio.open(path, "r+") as target:
            target.scales, target.offsets = [scale], [offset]
    plan = planned(paths)
    assert [text.split(" ", 1)[1] for text in plan.warnings] == [
        "has scale 0.001 and offset 0.5, the first file 0.0001 and 0; each band keeps its own."
    ]
    with rasterio.open(merged(plan, tmp_path / "out.tif")) as opened:
        assert (opened.scales, opened.offsets) == ((0.0001, 0.001), (0.0, 0.5))


def test_shifted_bands_show_the_same_area(tmp_path: Path) -> None:
    """The second lens is shifted by 3 pixels to the right and 2 up, and so is its centre."""
    scene = noise((1, 120, 150), "uint16")[0]
    first, second = scene[10:110, 10:140], scene[12:112, 7:137]
    paths = write_bands(tmp_path, np.stack([first, second]), **UNPLACED)
    plan = planned(paths, [OpticalCentrePx("point", 65, 50), OpticalCentrePx("point", 68.2, 47.9)])
    back = read(merged(plan, tmp_path / "out.tif"))
    assert back.shape == (2, 98, 127)
    assert (back[0] == scene[12:110, 10:137]).all()
    assert (back[0] == back[1]).all()


def test_the_edge_of_an_overview_does_not_fade(tmp_path: Path) -> None:
    paths = write_bands(tmp_path, np.full((2, 131, 67), 1000, np.uint16))
    result = merged(planned(paths), tmp_path / "out.tif")
    with rasterio.open(result) as opened:
        levels = len(opened.overviews(1))
    assert levels == 2
    for level in range(levels):
        with open_raster(result, overview_level=level) as overview:
            assert set(np.unique(overview.read())) == {1000}


def test_overviews_are_means_of_valid_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((2, 128, 128), np.uint16)
    pixels[1] = 7
    pixels[0, 0, 0:2] = (10, 13)
    result = merged(planned(write_bands(tmp_path, pixels, nodata=0)), tmp_path / "out.tif")
    with open_raster(result, overview_level=0) as overview:
        assert overview.read()[:, 0, :2].tolist() == [[12, 0], [7, 7]]


def test_position_time_and_camera_are_carried_over(tmp_path: Path) -> None:
    exif = {
        "Make": "MicaSense",
        "Model": "RedEdge",
        "Software": "firmware",
        "DateTimeOriginal": "2017:10:19 20:40:39",
        "FocalLength": 5.5,
        "gps": {
            "GPSLatitudeRef": "N",
            "GPSLatitude": (36.0, 34.0, 33.9456),
            "GPSLongitudeRef": "W",
            "GPSLongitude": (119.0, 26.0, 6.96804),
            "GPSAltitudeRef": b"\0",
            "GPSAltitude": 101.861,
        },
    }
    paths = write_bands(tmp_path, noise((2, 40, 40), "uint16"))
    result = merged(planned(paths), tmp_path / "out.tif", exif=exif)
    found = read_embedded(result)
    assert found.faults == ()
    assert found.gps == exif["gps"]
    kept = {name: found.exif.get(name) for name in ("Make", "Model", "DateTimeOriginal", "FocalLength")}
    assert kept == {name: exif[name] for name in kept}
    assert found.exif["Software"] == "Aerotask merge-multispectral"
    assert cog_validate(str(result), strict=True) == (True, [], [])
    with open_raster(result) as opened:
        assert opened.tags(ns="EXIF")["EXIF_GPSLatitude"] == "(36) (34) (33.9456)"


def test_invalid_exif_values_are_left_out(tmp_path: Path) -> None:
    exif = {
        "Make": "ä\0",
        "FocalLength": -1,
        "DateTime": 7,
        "gps": {"GPSLatitude": (1e300,), "GPSAltitude": "high", "GPSVersionID": b"\2" * 100},
    }
    paths = write_bands(tmp_path, noise((2, 40, 40), "uint16"))
    result = merged(planned(paths), tmp_path / "out.tif", exif=exif)
    found = read_embedded(result)
    assert (found.faults, found.gps) == ((), {})
    assert not {"Make", "FocalLength", "DateTime"} & set(found.exif)


def test_a_damaged_band_ends_the_merge_and_leaves_no_scratch_file(tmp_path: Path) -> None:
    paths = write_bands(tmp_path, noise((2, 300, 300), "uint16"), compress="deflate", tiled=True)
    plan = planned(paths)
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(InvalidInput, match="damaged"):
        merged(plan, tmp_path / "out.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blue.tif", "green.tif"]


def test_an_exception_from_on_progress_stops_every_thread(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(stage: str, fraction: float) -> None:
        if fraction > 0.1:
            raise Stop

    before = threading.active_count()
    plan = planned(write_bands(tmp_path, noise((2, 300, 300), "uint16")))
    with pytest.raises(Stop):
        merge_bands(plan, tmp_path / "out.tif", writing=MergeWriteOptions(2, tile_px=32), on_stage=stop)
    assert threading.active_count() == before
    assert not (tmp_path / "out.tif").exists()


def test_many_bands_get_smaller_tiles(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "band.tif", noise((1, 300, 300), "float64"))
    result = merged(plan_merge([read_source_band("band.tif", path)] * 20), tmp_path / "out.tif", tile_px=512)
    with rasterio.open(result) as opened:
        assert opened.block_shapes[0] == (128, 128)
        assert opened.count == 20


PEAK = """
import resource, sys
from pathlib import Path
from aerotask.raster.merge.write import MergeWriteOptions, merge_bands
from aerotask.raster.merge.plan import plan_merge
from aerotask.raster.merge.run import read_source_band
target, *bands = map(Path, sys.argv[1:])
plan = plan_merge([read_source_band(path.name, path) for path in bands])
merge_bands(plan, target, writing=MergeWriteOptions(2), on_stage=lambda stage, share: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_raster(tmp_path: Path) -> None:
    """Twenty-five times as many pixels, 79 MB of them, need hardly more memory."""
    peaks_mib = []
    for size_px in (1024, 5120):
        plane = np.zeros((1, size_px, size_px), np.uint8)
        paths = [
            write_raster(tmp_path / f"{name}-{size_px}.tif", plane, tiled=True, compress="deflate")
            for name in NAMES[:3]
        ]
        command = [sys.executable, "-c", PEAK, str(tmp_path / f"out-{size_px}.tif"), *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks_mib.append(int(done.stdout))
    assert peaks_mib[1] - peaks_mib[0] < 32

"""Alignment of rasters with other geometries: south-up, rotated, coarser, finer, in another CRS, in degrees."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine, from_origin
from rasterio.warp import Resampling, reproject, transform
from tests.raster.alignment.scenes import METRES, ORIGIN, SIDE, canvas, cut, on_disk, turned

from aerotask.raster.alignment.match.matching import Match, find_match, finest_factor
from aerotask.raster.alignment.match.quality import reasons_to_reject
from aerotask.raster.alignment.output_grid import plan_output
from aerotask.raster.alignment.pair import Pair, make_pair
from aerotask.raster.alignment.warping import fill_values_for
from aerotask.raster.alignment.writing import WarpJob, write_aligned
from aerotask.raster.pixels import SourceFile

UTM32 = "EPSG:32632"
MOVED_M = (2.0, -1.0)
"""Position error of every source, to the east and to the north."""


@pytest.fixture(scope="module")
def scene() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return cut(canvas(11), left=0, top=0)


@pytest.fixture
def reference(scene: np.ndarray[Any, np.dtype[np.uint8]], tmp_path: Path) -> SourceFile:
    return on_disk(tmp_path / "reference.tif", scene, nodata=0)


def shown_on(
    scene: np.ndarray[Any, np.dtype[Any]], place: Affine, shape_yx: tuple[int, int], crs: str = UTM32
) -> np.ndarray[Any, np.dtype[Any]]:
    """The scene on another grid, computed by GDAL."""
    shown = np.zeros((scene.shape[0], *shape_yx), scene.dtype)
    reproject(
        scene,
        shown,
        src_transform=from_origin(*ORIGIN, METRES, METRES),
        src_crs=UTM32,
        dst_transform=place,
        dst_crs=crs,
        resampling=Resampling.cubic,
        src_nodata=0,
        dst_nodata=0,
        tolerance=0,
    )
    return shown


def matched(source: SourceFile, reference: SourceFile) -> tuple[Pair, Match]:
    pair = make_pair(source, reference)
    match = find_match(pair, mode="similarity", threads=2, on_progress=lambda _share: None)
    assert reasons_to_reject(match) == ()
    return pair, match


def ground_error_m(pair: Pair, match: Match, moved: Affine, place: Affine) -> float:
    """The remaining position error of the source's middle half, in metres."""
    rows, cols = pair.source.in_map.shape_yx
    pixels = np.array([[cols * x, rows * y] for x in (0.25, 0.75) for y in (0.25, 0.75)])
    true = np.array([place @ tuple(pixel) for pixel in pixels])
    claimed = np.array([moved @ tuple(pixel) for pixel in pixels])
    claimed = pair.plane.to_map(match.transform.of(pair.plane.from_map(claimed)))
    if CRS.from_user_input(pair.source.crs).is_geographic:
        metres = 111_320 * np.array([math.cos(math.radians(true[0, 1])), 1.0])
        return float(np.abs((claimed - true) * metres).max())
    return float(np.abs(claimed - true).max())


GRIDS = {
    "as the reference": (from_origin(*ORIGIN, METRES, METRES), (SIDE, SIDE)),
    "south-up": (Affine(METRES, 0, ORIGIN[0], 0, METRES, ORIGIN[1] - SIDE * METRES), (SIDE, SIDE)),
    "turned by 30 degrees": (turned(-30), (SIDE, SIDE)),
    "turned by 200 degrees": (Affine.translation(250, -250) @ turned(200), (SIDE, SIDE)),
    "finer": (from_origin(*ORIGIN, 0.3, 0.3), (800, 800)),
    "coarser": (from_origin(*ORIGIN, 0.7, 0.7), (365, 365)),
    "pixels twice as wide as high": (from_origin(*ORIGIN, 0.8, 0.4), (640, 320)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_source_may_have_any_geometry(
    scene: np.ndarray[Any, np.dtype[np.uint8]], reference: SourceFile, tmp_path: Path, name: str
) -> None:
    place, shape = GRIDS[name]
    moved = Affine.translation(*MOVED_M) @ place
    source = on_disk(tmp_path / "source.tif", shown_on(scene, place, shape), nodata=0, transform=moved)
    pair, match = matched(source, reference)
    assert ground_error_m(pair, match, moved, place) < 0.05 * METRES


def test_a_coarser_reference_is_compared_at_its_own_resolution(
    scene: np.ndarray[Any, np.dtype[np.uint8]], tmp_path: Path
) -> None:
    coarse = scene.reshape(3, 256, 2, 256, 2).mean(axis=(2, 4)).astype(np.uint8)
    reference = on_disk(tmp_path / "reference.tif", coarse, nodata=0, transform=from_origin(*ORIGIN, 1, 1))
    place = from_origin(*ORIGIN, METRES, METRES)
    moved = Affine.translation(*MOVED_M) @ place
    source = on_disk(tmp_path / "source.tif", scene, nodata=0, transform=moved)
    pair, match = matched(source, reference)
    assert (finest_factor(pair), match.factor) == (2, 2)
    assert ground_error_m(pair, match, moved, place) < 0.05


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857", "EPSG:4326"])
def test_another_crs_is_reprojected_once(
    scene: np.ndarray[Any, np.dtype[np.uint8]], reference: SourceFile, tmp_path: Path, crs: str
) -> None:
    corners = transform(UTM32, crs, [ORIGIN[0], ORIGIN[0] + 256], [ORIGIN[1], ORIGIN[1] - 256])
    left, top = corners[0][0], corners[1][0]
    step_x, step_y = (corners[0][1] - left) / SIDE, (top - corners[1][1]) / SIDE
    place = from_origin(left, top, step_x, step_y)
    east, north = MOVED_M[0] / METRES * step_x, MOVED_M[1] / METRES * step_y
    moved = Affine.translation(east, north) @ place
    source = on_disk(
        tmp_path / "source.tif",
        shown_on(scene, place, (SIDE, SIDE), crs),
        nodata=0,
        crs=crs,
        transform=moved,
    )
    pair, match = matched(source, reference)
    assert ground_error_m(pair, match, moved, place) < 0.05 * METRES
    written = write(pair, match, tmp_path / "aligned.tif")
    with rasterio.open(written) as aligned:
        assert aligned.crs == CRS.from_user_input(crs)
        assert (aligned.transform.a, aligned.transform.e) == pytest.approx((step_x, -step_y))


def write(pair: Pair, match: Match, target: Path) -> Path:
    move = WarpJob(
        pair.source.file, plan_output(pair, match.transform), fill_values_for(pair.source.file.profile)
    )
    write_aligned(move, target, threads=2, on_stage=lambda _stage, _share: None)
    return target


def test_a_rotated_raster_keeps_its_axes(
    scene: np.ndarray[Any, np.dtype[np.uint8]], reference: SourceFile, tmp_path: Path
) -> None:
    place = turned(-30)
    moved = Affine.translation(*MOVED_M) @ place
    source = on_disk(tmp_path / "source.tif", shown_on(scene, place, (SIDE, SIDE)), nodata=0, transform=moved)
    pair, match = matched(source, reference)
    with rasterio.open(write(pair, match, tmp_path / "aligned.tif")) as aligned:
        assert aligned.transform[:6:3] == pytest.approx(place[:6:3])
        assert (aligned.transform.b, aligned.transform.e) == pytest.approx((place.b, place.e))
        pixels = aligned.read()
        expected = shown_on(scene, aligned.transform, aligned.shape)
    both = (pixels > 0).all(axis=0) & (expected > 0).all(axis=0)
    assert both.mean() > 0.3
    assert np.abs(pixels.astype(float) - expected)[:, both].mean() < 3

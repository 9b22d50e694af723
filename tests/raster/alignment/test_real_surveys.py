"""Alignment of real surveys with known true positions: within 0.03 pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.raster.rasters import read, source_file, write_raster

from aerotask.raster.alignment.match.matching import Match, find_match
from aerotask.raster.alignment.match.quality import confidence, reasons_to_reject
from aerotask.raster.alignment.pair import Pair, make_pair

# A survey's pixel (x, y), counted from the centre of the first, shows the reference's pixel M·(x, y).
SHIFTED = np.array([[1, 0, 13.37], [0, 1, -8.62]])


def about_the_mosaics_origin() -> np.ndarray[Any, np.dtype[np.float64]]:
    """The true transform; the README's matrix refers to the full mosaic's origin, 900 columns and 700 rows before the crop's."""
    linear = np.array([[1.0039813, -0.0061330], [0.0061330, 1.0039813]])
    crop = np.array([900, 700])
    return np.column_stack([linear, linear @ crop + (13.395988, -25.347084) - crop])


def found(source: Path, reference: Path) -> tuple[Pair, Match]:
    pair = make_pair(source_file(source), source_file(reference))
    match = find_match(pair, mode="similarity", threads=2, on_progress=lambda _share: None)
    assert reasons_to_reject(match) == ()
    return pair, match


def rmse_px(pair: Pair, match: Match, matrix: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """The position errors of pixels all over the overlap."""
    rows, cols = pair.source.in_map.shape_yx
    grid = np.stack(np.meshgrid(np.linspace(0, cols, 15), np.linspace(0, rows, 15)), axis=-1).reshape(-1, 2)
    true = (grid - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    claimed = pair.locate_in_reference(match.transform.of(pair.source_grid.plane_points(grid)))
    inside = ((true >= 0) & (true <= pair.reference.in_map.shape_yx[::-1])).all(axis=1)
    return float(np.sqrt(((claimed - true)[inside] ** 2).sum(axis=1).mean()))


@pytest.mark.parametrize(
    ("survey", "matrix"),
    [("survey_shifted.tif", SHIFTED), ("survey_similarity.tif", about_the_mosaics_origin())],
)
def test_a_survey_is_aligned_to_its_reference(
    real_data: Path, survey: str, matrix: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    pair, match = found(real_data / "align" / survey, real_data / "align" / "reference.tif")
    assert rmse_px(pair, match, matrix) <= 0.03
    assert confidence(match) > 0.9


def test_the_demos_second_orthophoto_is_aligned_to_the_first(real_data: Path) -> None:
    demo = real_data / "demo"
    _, match = found(demo / "orthophoto-2025.tif", demo / "orthophoto.tif")
    assert match.transform.rotation_deg == pytest.approx(0.350, abs=0.001)
    assert match.transform.scale == pytest.approx(1.004, abs=0.0001)


@pytest.mark.parametrize(
    ("one", "other"), [(2, 5), (1, 4)], ids=["green to red edge", "red to near infrared"]
)
def test_one_band_is_aligned_to_another(real_data: Path, tmp_path: Path, one: int, other: int) -> None:
    field = read(real_data / "multispectral" / "field.tif")
    reference = write_raster(tmp_path / "other.tif", field[other - 1 : other], nodata=0)
    # The camera's lenses don't lie on each other exactly: what is known is by how much a copy was moved.
    still = write_raster(tmp_path / "still.tif", field[one - 1 : one], nodata=0)
    moved = write_raster(tmp_path / "moved.tif", field[one - 1 : one, 4:, 7:], nodata=0)
    pair, unmoved_match = found(still, reference)
    moved_pair, match = found(moved, reference)
    pixels = np.array([[100.0, 100.0], [1000, 100], [100, 700], [1000, 700]])
    expected = pair.locate_in_reference(
        unmoved_match.transform.of(pair.source_grid.plane_points(pixels + np.array([7, 4])))
    )
    claimed = moved_pair.locate_in_reference(match.transform.of(moved_pair.source_grid.plane_points(pixels)))
    assert np.hypot(*(claimed - expected).T).max() <= 0.3

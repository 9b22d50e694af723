"""Raster metadata: profile and footprint."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine
from tests.raster.rasters import slope, write_raster

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.raster import extract_raster


def test_the_outline_is_a_closed_anticlockwise_ring_in_degrees(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif",
        np.zeros((1, 10, 20), np.uint8),
        crs="EPSG:4326",
        transform=Affine(0.1, 0, 7, 0, -0.1, 50),
    )
    metadata = extract_raster(path)
    assert metadata.footprint == {
        "type": "Polygon",
        "coordinates": [[[7.0, 50.0], [7.0, 49.0], [9.0, 49.0], [9.0, 50.0], [7.0, 50.0]]],
    }
    assert metadata.centre == {"type": "Point", "coordinates": [8.0, 49.5]}
    assert metadata.is_georeferenced


def test_projected_coordinates_become_degrees(tmp_path: Path) -> None:
    metadata = extract_raster(write_raster(tmp_path / "in.tif", slope((100, 200))))
    assert metadata.centre is not None
    # 50 m east and 25 m south of the central meridian's point at northing 5,000,000 in zone 32.
    assert metadata.centre["coordinates"] == pytest.approx([9.000635, 45.153318], abs=2e-4)


def test_a_mirrored_grid_still_runs_anticlockwise(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "in.tif",
        np.zeros((1, 10, 10), np.uint8),
        crs="EPSG:4326",
        transform=Affine(0.1, 0, 7, 0, 0.1, 50),
    )
    metadata = extract_raster(path)
    assert metadata.footprint is not None
    ring = metadata.footprint["coordinates"][0]
    area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring))
    assert area / 2 == pytest.approx(1.0)
    assert ring[0] == ring[-1]


@pytest.mark.parametrize(
    "place",
    [
        {"crs": None, "transform": None},
        {"crs": None},
        {"crs": "EPSG:4326", "transform": None},
        {"crs": "EPSG:32632", "transform": Affine(1e30, 0, 1e35, 0, -1e30, 1e35)},
    ],
)
def test_a_raster_without_georeferencing_has_no_footprint(tmp_path: Path, place: dict[str, object]) -> None:
    metadata = extract_raster(write_raster(tmp_path / "in.tif", slope((4, 4)), **place))  # type: ignore[arg-type]
    assert (metadata.footprint, metadata.centre, metadata.is_georeferenced) == (None, None, False)


def test_the_metadata_include_the_profile(tmp_path: Path) -> None:
    profile = extract_raster(
        write_raster(tmp_path / "in.tif", slope((4, 5)), descriptions=["red", "nir"])
    ).profile
    assert (profile.width, profile.height) == (5, 4)
    assert [band.description for band in profile.bands] == ["red", "nir"]


def test_a_file_that_is_not_a_raster_is_rejected_with_a_code(tmp_path: Path) -> None:
    path = tmp_path / "field.tif"
    path.write_text("not a raster")
    with pytest.raises(InvalidInput, match="it is text") as caught:
        extract_raster(path)
    assert caught.value.code == "unreadable-raster"

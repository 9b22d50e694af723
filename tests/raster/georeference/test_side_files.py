"""World files and `.prj` beside a raster: what they say, and when they count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine
from tests.raster.georeference.places import by_control_points, corner_points
from tests.raster.rasters import write_raster

from aerotask.metadata.extract import extract_metadata
from aerotask.raster.georeference.side_files import parse_world_file, read_side_files
from aerotask.raster.georeference.side_georeference import SideGeoreference
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.profile import RasterProfile

WORLD_FILE = "0.5\n0\n0\n-0.5\n600000.25\n4999999.75\n"
GRID = (600_000.0, 0.5, 0.0, 5_000_000.0, 0.0, -0.5)
ESRI_PRJ = CRS.from_epsg(32632).to_wkt(version="WKT1_ESRI")


def plain(path: Path, **options: Any) -> Path:
    settings = {"crs": None, "transform": None} | options
    return write_raster(path, np.full((1, 30, 40), 7, np.uint8), **settings)


def profile_of(path: Path) -> RasterProfile:
    with open_raster(path) as opened:
        return read_profile(opened)


@pytest.mark.parametrize(
    ("name", "driver", "world_file"),
    [
        ("a.tif", "GTiff", "a.tfw"),
        ("a.tif", "GTiff", "a.TFW"),
        ("a.tif", "GTiff", "a.tifw"),
        ("a.tiff", "GTiff", "a.tfwx"),
        ("a.tif", "GTiff", "a.wld"),
        ("a.png", "PNG", "a.pgw"),
        ("a.jpg", "JPEG", "a.jgw"),
        ("b.ortho.JPEG", "JPEG", "b.ortho.jgw"),
    ],
)
def test_a_world_file_and_a_prj_georeference_a_raster(
    tmp_path: Path, name: str, driver: str, world_file: str
) -> None:
    path = plain(tmp_path / name, driver=driver)
    (tmp_path / world_file).write_text(WORLD_FILE)
    path.with_suffix(".prj").write_text(ESRI_PRJ)
    found = extract_metadata(path)
    assert found.type == "geoRaster"
    assert found.properties["crs"] == "EPSG:32632"
    assert found.properties["geotransform"] == list(GRID)
    assert found.properties["georeferencedBy"] == "side-files"
    assert found.polygon is not None
    corner = Transformer.from_crs(32632, 4326, always_xy=True).transform(600_000, 5_000_000)
    ring = np.array(found.polygon["coordinates"][0])
    assert np.abs(ring - corner).sum(axis=1).min() < 1e-9


def test_a_world_file_is_read_as_gdal_does(tmp_path: Path) -> None:
    text = "0.4\n0.1\n-0.2\n-0.5\n600000.25\n4999999.75\n"
    path = plain(tmp_path / "a.tif")
    path.with_suffix(".tfw").write_text(text)
    with rasterio.open(path) as by_gdal:
        assert parse_world_file(text) == pytest.approx(by_gdal.transform.to_gdal())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it must consist of six numbers"),
        ("1\n0\n0\n-1\n5", "it must consist of six numbers"),
        ("1\n0\n0\n-1\nnan\n5", "it must consist of six numbers"),
        ("0\n0\n0\n0\n5\n5", "its pixels have no area"),
        ("1 " * 4096, "it has more than 4,096 bytes"),
    ],
)
def test_a_broken_world_file_is_ignored_and_named(tmp_path: Path, text: str, fault: str) -> None:
    path = plain(tmp_path / "a.tif")
    path.with_suffix(".tfw").write_text(text)
    found = read_side_files(path)
    assert (bool(found.georeference), found.faults) == (False, (f"'a.tfw' is ignored: {fault}.",))
    assert extract_metadata(path).properties["warnings"] == [f"'a.tfw' is ignored: {fault}."]


@pytest.mark.parametrize("text", ["", "EPSG:32632", "/etc/passwd", "PROJCS[", "\x00\x01", "x" * 100_000])
def test_a_prj_must_be_wkt(tmp_path: Path, text: str) -> None:
    path = plain(tmp_path / "a.tif")
    path.with_suffix(".tfw").write_text(WORLD_FILE)
    path.with_suffix(".prj").write_text(text)
    assert read_side_files(path).georeference == SideGeoreference(None, GRID)


def test_a_world_file_alone_says_nothing_about_the_coordinate_system(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.tif")
    path.with_suffix(".tfw").write_text("0.001\n0\n0\n-0.001\n9\n45\n")
    found = extract_metadata(path)
    assert (found.type, found.polygon) == ("image", None)
    assert "put a .prj file beside it" in found.properties["warnings"][0]


def test_the_own_tags_of_a_raster_count_first(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.tif", crs="EPSG:4326", transform=Affine(0.1, 0, 7, 0, -0.1, 50))
    points = by_control_points(tmp_path / "b.tif", corner_points(), "EPSG:25832")
    for each in (path, points):
        each.with_suffix(".tfw").write_text(WORLD_FILE)
        each.with_suffix(".prj").write_text(ESRI_PRJ)
    assert (profile_of(path).crs, profile_of(path).georeferenced_by) == ("EPSG:4326", None)
    assert profile_of(points).georeferenced_by == "control-points"


def test_what_the_tags_lack_comes_from_the_side_files(tmp_path: Path) -> None:
    with_crs = plain(tmp_path / "a.tif", crs="EPSG:25832")
    with_crs.with_suffix(".tfw").write_text(WORLD_FILE)
    with_crs.with_suffix(".prj").write_text(ESRI_PRJ)
    assert (profile_of(with_crs).crs, profile_of(with_crs).geotransform) == ("EPSG:25832", GRID)
    placed = plain(tmp_path / "b.tif", transform=Affine(2, 0, 600_000, 0, -2, 5_000_000))
    placed.with_suffix(".prj").write_text(ESRI_PRJ)
    profile = profile_of(placed)
    assert (profile.crs, profile.geotransform) == ("EPSG:32632", (600_000, 2, 0, 5_000_000, 0, -2))
    assert RasterProfile.from_properties(profile.to_properties()) == profile

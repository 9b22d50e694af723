"""Point cloud metadata from valid and invalid headers, written by laspy."""

from __future__ import annotations

import struct
from pathlib import Path

import laspy
import numpy as np
import pytest
from rasterio.crs import CRS
from tests.derivatives.clouds import hills, write_cloud_with_long_wkt

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.pointcloud import extract_point_cloud


def write_cloud(
    path: Path, *, points: int = 1000, version: str = "1.4", point_format: int = 7, crs: str | None = None
) -> Path:
    """A cloud in the rectangle (500000, 5000000) to (500100, 5000200), 10 to 30 m high."""
    header = laspy.LasHeader(version=version, point_format=point_format)
    header.offsets, header.scales = np.array([500_000, 5_000_000, 0]), np.array([0.001] * 3)
    if crs is not None:
        header.vlrs.append(laspy.vlrs.known.WktCoordinateSystemVlr(CRS.from_string(crs).to_wkt()))
        header.global_encoding.wkt = True
    cloud = laspy.LasData(header)
    cloud.x = np.linspace(500_000, 500_100, points)
    cloud.y = np.linspace(5_000_000, 5_000_200, points)
    cloud.z = np.linspace(10, 30, points)
    cloud.write(path)
    return path


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_the_header_has_counts_bounds_dimensions_and_crs(tmp_path: Path, suffix: str) -> None:
    found = extract_point_cloud(write_cloud(tmp_path / f"a.{suffix}", crs="EPSG:32632"))
    assert found.properties["format"] == suffix
    assert (found.properties["version"], found.properties["pointFormat"]) == ("1.4", 7)
    assert (found.properties["pointCount"], found.properties["crs"]) == (1000, "EPSG:32632")
    assert found.properties["bounds"] == pytest.approx([500_000, 5_000_000, 10, 500_100, 5_000_200, 30])
    assert {"X", "intensity", "red", "gps_time"} <= set(found.properties["dimensions"])
    assert found.footprint is not None
    # The zone's central meridian, 9° east, is at an easting of 500,000.
    assert found.footprint.centre["coordinates"] == pytest.approx([9.000635, 45.154], abs=1e-3)


def test_the_crs_is_read_from_geotiff_keys_too(tmp_path: Path) -> None:
    header = laspy.LasHeader(version="1.2", point_format=3)
    keys = struct.pack("<12H", 1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32615)
    header.vlrs.append(laspy.VLR("LASF_Projection", 34735, "", keys))
    laspy.LasData(header).write(tmp_path / "a.las")
    assert extract_point_cloud(tmp_path / "a.las").properties["crs"] == "EPSG:32615"


@pytest.mark.parametrize(
    ("keys", "crs"),
    [
        pytest.param({1024: 1, 2048: 4269, 3072: 32767}, None, id="a projected CRS of one's own"),
        pytest.param({2048: 4269, 3072: 32767}, None, id="the same without its model"),
        pytest.param({1024: 1, 2048: 4269}, None, id="a projected CRS that isn't named"),
        pytest.param({1024: 3, 2048: 4978}, None, id="geocentric"),
        pytest.param({1024: 2, 2048: 4269}, "EPSG:4269", id="geographic"),
        pytest.param({2048: 4269}, "EPSG:4269", id="geographic without its model"),
        pytest.param({3072: 32615}, "EPSG:32615", id="projected without its model"),
    ],
)
def test_metres_are_never_read_as_degrees(tmp_path: Path, keys: dict[int, int], crs: str | None) -> None:
    header = laspy.LasHeader(version="1.2", point_format=3)
    directory = struct.pack("<4H", 1, 1, 0, len(keys))
    directory += b"".join(struct.pack("<4H", key, 0, 1, value) for key, value in keys.items())
    header.vlrs.append(laspy.VLR("LASF_Projection", 34735, "", directory))
    laspy.LasData(header).write(tmp_path / "a.las")
    assert extract_point_cloud(tmp_path / "a.las").properties["crs"] == crs


def test_a_crs_code_in_another_record_is_ignored(tmp_path: Path) -> None:
    header = laspy.LasHeader(version="1.2", point_format=3)
    keys = struct.pack("<8H", 1, 1, 0, 1, 3072, 34736, 1, 32615)
    header.vlrs.append(laspy.VLR("LASF_Projection", 34735, "", keys))
    laspy.LasData(header).write(tmp_path / "a.las")
    assert extract_point_cloud(tmp_path / "a.las").properties["crs"] is None


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_the_crs_may_follow_the_points(tmp_path: Path, suffix: str) -> None:
    path = write_cloud_with_long_wkt(tmp_path / f"a.{suffix}", hills(100), 32632)
    assert extract_point_cloud(path).properties["crs"] == "EPSG:32632"


def test_invalid_records_after_the_points_are_ignored(tmp_path: Path) -> None:
    whole = write_cloud_with_long_wkt(tmp_path / "a.las", hills(100), 32632).read_bytes()
    (first_at,) = struct.unpack_from("<Q", whole, 235)
    records = {
        "endless.las": (243, struct.pack("<I", 2**32 - 1), "EPSG:32632"),
        "beyond.las": (235, struct.pack("<Q", 2**64 - 1), None),
        "longest.las": (first_at + 20, struct.pack("<Q", 2**64 - 1), None),
        "other.las": (first_at + 60 + 70_000 + 2, b"somebody else\0\0\0", None),
    }
    for name, (at, patch, crs) in records.items():
        (tmp_path / name).write_bytes(whole[:at] + patch + whole[at + len(patch) :])
        assert extract_point_cloud(tmp_path / name).properties["crs"] == crs, name


def test_compressed_points_need_chunks(tmp_path: Path) -> None:
    content = bytearray(write_cloud(tmp_path / "a.laz", points=2).read_bytes())
    for points, message in ((60_000, "its chunks hold 50,000"), (4_000_000_000, "bytes can hold")):
        content[247:255] = struct.pack("<Q", points)
        (tmp_path / "a.laz").write_bytes(content)
        with pytest.raises(InvalidInput, match=message) as caught:
            extract_point_cloud(tmp_path / "a.laz")
        assert caught.value.code == "damaged-cloud"


def test_identical_points_may_compress_to_almost_nothing(tmp_path: Path) -> None:
    cloud = laspy.LasData(laspy.LasHeader(version="1.4", point_format=7))
    cloud.x = np.zeros(1_000_000)
    cloud.write(tmp_path / "a.laz")
    assert (tmp_path / "a.laz").stat().st_size < 20_000
    assert extract_point_cloud(tmp_path / "a.laz").properties["pointCount"] == 1_000_000


def test_a_cloud_without_crs_has_bounds_but_no_footprint(tmp_path: Path) -> None:
    found = extract_point_cloud(write_cloud(tmp_path / "a.las"))
    assert found.properties["crs"] is None
    assert found.properties["bounds"][0] == pytest.approx(500_000)
    assert found.footprint is None


def test_a_cloud_without_points_has_no_bounds(tmp_path: Path) -> None:
    laspy.LasData(laspy.LasHeader(version="1.4", point_format=6)).write(tmp_path / "a.las")
    found = extract_point_cloud(tmp_path / "a.las")
    assert (found.properties["pointCount"], "bounds" in found.properties) == (0, False)


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.99])
def test_a_truncated_cloud_is_reported(tmp_path: Path, suffix: str, share: float) -> None:
    whole = write_cloud(tmp_path / f"a.{suffix}", points=20_000).read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InvalidInput, match="incomplete") as caught:
        extract_point_cloud(tmp_path / f"a.{suffix}")
    assert caught.value.code == "damaged-cloud"


@pytest.mark.parametrize(
    ("at", "patch", "message"),
    [
        pytest.param(96, struct.pack("<L", 0xFFFFFFF0), "declares 4,294,967,280 bytes", id="points far away"),
        pytest.param(100, struct.pack("<L", 0xFFFFFFFF), "4,294,967,295 records", id="endless records"),
        pytest.param(100, struct.pack("<L", 5000), "too short for the 5,000 records", id="more records than room"),
        pytest.param(94, struct.pack("<H", 10), "header is invalid", id="a header shorter than itself"),
        pytest.param(105, struct.pack("<H", 1), "header is invalid", id="points smaller than their format"),
        pytest.param(247, struct.pack("<Q", 2**60), "1,152,921,504,606,846,976 points", id="2^60 points"),
    ],
)  # fmt: skip
def test_an_invalid_header_is_reported(tmp_path: Path, at: int, patch: bytes, message: str) -> None:
    content = bytearray(write_cloud(tmp_path / "a.las").read_bytes())
    content[at : at + len(patch)] = patch
    (tmp_path / "a.las").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        extract_point_cloud(tmp_path / "a.las")


@pytest.mark.parametrize("content", [b"", b"LASF", b"no cloud at all", b"ASTM-E57"])
def test_a_file_that_is_not_a_cloud_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.laz").write_bytes(content)
    with pytest.raises(InvalidInput):
        extract_point_cloud(tmp_path / "a.laz")


def test_an_e57_cloud_has_a_version(tmp_path: Path) -> None:
    header = struct.pack("<8sLLQQQQ", b"ASTM-E57", 1, 0, 100, 48, 10, 1024)
    (tmp_path / "a.e57").write_bytes(header + b"\0" * 52)
    assert extract_point_cloud(tmp_path / "a.e57").properties == {"format": "e57", "version": "1.0"}
    (tmp_path / "a.e57").write_bytes(header + b"\0" * 51)
    with pytest.raises(InvalidInput, match="declares 100 bytes but has 99"):
        extract_point_cloud(tmp_path / "a.e57")


def test_the_brighton_cloud(real_data: Path) -> None:
    found = extract_point_cloud(real_data / "brighton" / "model.laz")
    assert (found.properties["pointCount"], found.properties["crs"]) == (940_393, "EPSG:32615")
    assert found.properties["bounds"] == pytest.approx(
        [576_661.97, 5_188_114.06, 156.06, 576_768.25, 5_188_211.70, 168.92], abs=0.01
    )
    assert found.footprint is not None

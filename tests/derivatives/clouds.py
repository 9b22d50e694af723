"""Small synthetic point clouds, and their records in a canonical order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import laspy
import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

Numbers = NDArray[Any]


def nothing(_share: float) -> None:
    """Ignored progress callback."""


def write_cloud(
    path: Path, xyz: Numbers, *, point_format: int = 3, version: str = "1.2", extra: bool = False
) -> Path:
    """Write points (x, y, z in three columns) in EPSG:32632 with random values in every attribute of the format."""
    header = laspy.LasHeader(point_format=point_format, version=version)
    header.scales, header.offsets = np.full(3, 0.001), np.array([500_000.0, 5_000_000.0, 0.0])
    header.add_crs(CRS.from_epsg(32632), keep_compatibility=point_format < 6)
    if extra:
        header.add_extra_dim(laspy.ExtraBytesParams("height", np.float32))
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = xyz.T
    random = np.random.default_rng(3)
    for dimension in cloud.point_format.dimensions:
        if dimension.name in {"X", "Y", "Z"}:
            continue
        if dimension.name in {"gps_time", "height"}:
            cloud[dimension.name] = random.random(len(xyz))
        elif dimension.name == "scan_angle_rank":
            cloud[dimension.name] = random.integers(-90, 91, len(xyz))
        else:
            cloud[dimension.name] = random.integers(0, 2 ** min(dimension.num_bits, 15), len(xyz))
    cloud.write(path)
    return path


def write_cloud_with_long_wkt(path: Path, xyz: Numbers, epsg: int) -> Path:
    """Write points whose coordinate system is in an extended record after them, as LAS 1.4 allows."""
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, 0.001), np.array([500_000.0, 5_000_000.0, 0.0])
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = xyz.T
    wkt = CRS.from_epsg(epsg).to_wkt("WKT1_GDAL").encode() + b"\0"
    notes = laspy.VLR("somebody", 7, "notes", b"x" * 70_000)
    cloud.evlrs = laspy.vlrs.vlrlist.VLRList([notes, laspy.VLR("LASF_Projection", 2112, "WKT", wkt)])
    cloud.write(path)
    return path


def hills(points: int, *, seed: int = 1) -> Numbers:
    """Points on a rolling surface of 200 m × 100 m, denser in one corner."""
    random = np.random.default_rng(seed)
    x, y = 200 * random.random(points) ** 2, 100 * random.random(points) ** 2
    return np.column_stack([500_000 + x, 5_000_000 + y, 10 * np.sin(x / 20) + random.random(points)])


def records(cloud: Any) -> Numbers:
    """The stored records, sorted by their bytes."""
    array = np.ascontiguousarray(cloud.array)
    return np.sort(array.view(f"V{array.itemsize}").reshape(-1))

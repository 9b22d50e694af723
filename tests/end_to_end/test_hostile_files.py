"""Broken and hostile files: each gets a clear error, and the worker continues."""

from __future__ import annotations

import struct
from pathlib import Path

import laspy
import numpy as np
from tests.metadata.photo_files import exif_block, write_photo
from tests.support.world import World, eventually

KINDS = {
    "jpg": "raster",
    "webp": "picture",
    "laz": "cloud",
    "gpkg": "vector",
    "obj": "model",
    "mp4": "video",
}
PLY = "ply\nformat binary_little_endian 1.0\nelement vertex {}\nproperty float x\nend_header\n"


def cut_cloud(folder: Path) -> bytes:
    cloud = laspy.LasData(laspy.LasHeader(version="1.4", point_format=6))
    cloud.x = cloud.y = cloud.z = np.linspace(0, 100, 5000)
    cloud.write(folder / "whole.laz")
    whole = (folder / "whole.laz").read_bytes()
    return whole[: len(whole) // 2]


def lying_photo(folder: Path) -> bytes:
    path = write_photo(folder / "a.jpg", exif=exif_block({"Make": "DJI", "Software": "kept elsewhere"}))
    content = path.read_bytes()
    at = content.index(b"kept elsewhere") - content.index(b"MM\0*")
    return content.replace(struct.pack(">L", at), b"\x7f\xff\xff\xff")


def test_every_hostile_file_is_reported_and_the_worker_continues(world: World, tmp_path: Path) -> None:
    hostile = {
        "half.laz": (cut_cloud(tmp_path), "damaged-cloud"),
        "alone.shp": (b"\0\0\x27\x0a" + b"\0" * 96, "missing-side-file"),
        "nested.geojson": (b"[" * 2_000_000, "unreadable-vector"),
        "pipeline.geojson": (
            b'{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline read /etc/hostname ! write streamed"}',
            "unreadable-vector",
        ),
        "endless.ply": (PLY.format(2**60).encode() + b"\0" * 100, "damaged-model"),
        "video.mp4": (struct.pack(">L4sQ", 1, b"moov", 2**63), "unreadable-video"),
        **{f"empty.{suffix}": (b"", f"unreadable-{kind}") for suffix, kind in KINDS.items()},
    }
    dataset = world.dataset()
    for name, (content, _) in hostile.items():
        dataset.upload(name, content, indexed=False)
    dataset.upload("lying.jpg", lying_photo(tmp_path))
    good = dataset.upload("\u05d0🛰️ good.jpg", write_photo(tmp_path / "good.jpg"))

    assert good["type"] == "image"
    assert dataset.entry("lying.jpg")["properties"]["metadataFaults"] == ["damaged-exif"]
    eventually(lambda: all(dataset.entry(name)["indexed"] for name in hostile))
    faults = {name: dataset.entry(name)["properties"]["indexError"] for name in hostile}
    assert {name: fault["code"] for name, fault in faults.items()} == {
        name: code for name, (_, code) in hostile.items()
    }
    assert all(len(fault["message"]) > 20 and "/work" not in fault["message"] for fault in faults.values())

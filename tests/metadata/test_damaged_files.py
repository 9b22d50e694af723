"""Metadata extraction from corrupted and truncated files never fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import laspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.metadata.test_mesh import glb
from tests.metadata.test_video import header, place, track, video

from aerotask.metadata.extract import extract_metadata

PLY = "ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty float x\nelement face 1\nproperty list uchar int v\nend_header\n"
SCENE = {
    "asset": {"version": "2.0"},
    "accessors": [{"count": 8}, {"count": 36}],
    "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
}


def write_cloud(path: Path) -> None:
    cloud_header = laspy.LasHeader(version="1.4", point_format=7)
    cloud_header.add_extra_dim(laspy.ExtraBytesParams(name="height", type=np.float32))
    cloud = laspy.LasData(cloud_header)
    cloud.x = cloud.y = cloud.z = np.linspace(0, 10, 20)
    cloud.write(path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.las": write_cloud,
    "a.laz": write_cloud,
    "a.ply": lambda path: path.write_bytes(PLY.encode() + b"\0" * 25),
    "a.obj": lambda path: path.write_text("v 0 0 0\nvt 0 0\nf 1 1 1\n" * 4),
    "a.glb": lambda path: path.write_bytes(glb(SCENE)),
    "a.stl": lambda path: path.write_bytes(b"\0" * 80 + b"\1\0\0\0" + b"\0" * 50),
    "a.mp4": lambda path: path.write_bytes(
        video(header(created=0, per_second=600, length=600), track(64, 48), place("+46.8-091.9/"))
    ),
    "a.webp": lambda path: Image.new("RGB", (9, 9)).save(path),
    "a.gif": lambda path: Image.new("L", (9, 9)).save(path),
    "a.bmp": lambda path: Image.new("L", (9, 9)).save(path),
}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_corrupted_file_gets_metadata(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    # The headers are at the beginning; changes elsewhere would have no effect.
    reach = min(len(whole), 700)

    @settings(max_examples=120, deadline=None)
    @given(
        changes=st.lists(st.tuples(st.integers(0, reach - 1), st.binary(min_size=1, max_size=8))),
        cut=st.just(len(whole)) | st.integers(0, len(whole)),
    )
    def holds(changes: list[tuple[int, bytes]], cut: int) -> None:
        content = bytearray(whole)
        for at, piece in changes:
            content[at : at + len(piece)] = piece
        (tmp_path / name).write_bytes(content[:cut])
        found = extract_metadata(tmp_path / name)
        assert found.error is None or len(found.error) > 20
        json.dumps(found.properties)

    holds()

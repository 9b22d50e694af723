"""Mesh metadata from headers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import orjson
import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.mesh import extract_mesh

PLY = """ply
format binary_little_endian 1.0
element vertex {vertices}
property float x
property float y
property float z
property uchar red
element face {faces}
property list uchar int vertex_indices
end_header
"""


def ply(path: Path, *, vertices: int, faces: int, body: bytes) -> Path:
    path.write_bytes(PLY.format(vertices=vertices, faces=faces).encode() + body)
    return path


def glb(scene: Any) -> bytes:
    text = orjson.dumps(scene)
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sLLL4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text


def test_a_ply_has_counts_and_properties(tmp_path: Path) -> None:
    path = ply(tmp_path / "a.ply", vertices=3, faces=1, body=b"\0" * (3 * 13 + 13))
    assert extract_mesh(path, "ply") == {
        "format": "ply",
        "encoding": "binary_little_endian",
        "vertexCount": 3,
        "faceCount": 1,
        "vertexProperties": ["x", "y", "z", "red"],
    }


def test_a_ply_declaring_2_to_the_60_vertices_is_rejected_by_its_size(tmp_path: Path) -> None:
    path = ply(tmp_path / "a.ply", vertices=2**60, faces=0, body=b"\0" * 1000)
    with pytest.raises(InvalidInput, match="declares 1,152,921,504,606,846,976 × 'vertex'") as caught:
        extract_mesh(path, "ply")
    assert caught.value.code == "damaged-model"


def test_a_truncated_ply_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="incomplete"):
        extract_mesh(ply(tmp_path / "a.ply", vertices=3, faces=1, body=b"\0" * 30), "ply")


def test_a_text_ply_is_long_enough_for_its_numbers(tmp_path: Path) -> None:
    text = "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nend_header\n1\n2\n"
    (tmp_path / "a.ply").write_text(text.format(2))
    assert extract_mesh(tmp_path / "a.ply", "ply")["vertexCount"] == 2
    (tmp_path / "a.ply").write_text(text.format(10**9))
    with pytest.raises(InvalidInput, match="incomplete"):
        extract_mesh(tmp_path / "a.ply", "ply")


@pytest.mark.parametrize(
    "content",
    [b"", b"ply\n", b"no model", b"ply\nend_header\n", PLY.format(vertices=10**30, faces=0).encode()],
)
def test_what_is_no_ply_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(InvalidInput):
        extract_mesh(tmp_path / "a.ply", "ply")


def test_an_obj_is_counted_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\r\nv 0 1 0\nvt 0 0\nvn 0 0 1\n# v\nf 1 2 3\n")
    assert extract_mesh(tmp_path / "a.obj", "obj") == {
        "format": "obj",
        "vertexCount": 3,
        "faceCount": 1,
        "hasTextureCoordinates": True,
        "hasNormals": True,
    }


def test_counts_of_an_obj_do_not_depend_on_where_it_is_cut_into_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v 0.125 0.25 0.5\n" * 200_000 + "f 1 2 3\n" * 100_000)
    found = extract_mesh(tmp_path / "a.obj", "obj")
    assert (found["vertexCount"], found["faceCount"]) == (200_000, 100_000)


def test_an_obj_with_one_endless_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_bytes(b"v 1 1 1\n#" + b"x" * 5_000_000)
    assert extract_mesh(tmp_path / "a.obj", "obj")["vertexCount"] == 1


def test_a_glb_has_the_counts_of_its_scene(tmp_path: Path) -> None:
    scene = {
        "asset": {"version": "2.0"},
        "accessors": [{"count": 8}, {"count": 36}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "materials": [{}],
    }
    (tmp_path / "a.glb").write_bytes(glb(scene))
    assert extract_mesh(tmp_path / "a.glb", "glb") == {
        "format": "glb",
        "version": 2,
        "vertexCount": 8,
        "faceCount": 12,
        "meshCount": 1,
        "materialCount": 1,
        "textureCount": 0,
    }


@pytest.mark.parametrize(
    "scene",
    [
        {"asset": {}, "meshes": [{"primitives": [{"attributes": {"POSITION": 7}}]}]},
        {
            "asset": {},
            "meshes": [None, 5, {"primitives": {"x": 1}}, {"primitives": [None, {"attributes": []}]}],
        },
        {
            "asset": {},
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
            "accessors": [{"count": -3}],
        },
    ],
)
def test_a_malformed_scene_counts_as_empty(tmp_path: Path, scene: Any) -> None:
    (tmp_path / "a.glb").write_bytes(glb(scene))
    assert extract_mesh(tmp_path / "a.glb", "glb")["vertexCount"] == 0


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"glTF", id="cut"),
        pytest.param(glb({"asset": {}})[:-4], id="cut within its scene"),
        pytest.param(glb([1, 2]), id="no scene"),
        pytest.param(glb({}), id="no asset"),
        pytest.param(struct.pack("<4sLLL4s", b"glTF", 2, 24, 4, b"JSON") + b"{{{{", id="no JSON"),
    ],
)
def test_a_file_that_is_not_glb_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.glb").write_bytes(content)
    with pytest.raises(InvalidInput):
        extract_mesh(tmp_path / "a.glb", "glb")


def test_a_binary_stl_has_the_length_of_its_triangles(tmp_path: Path) -> None:
    (tmp_path / "a.stl").write_bytes(b"\0" * 80 + struct.pack("<L", 2) + b"\0" * 100)
    assert extract_mesh(tmp_path / "a.stl", "stl")["faceCount"] == 2
    (tmp_path / "a.stl").write_bytes(b"\0" * 80 + struct.pack("<L", 3) + b"\0" * 100)
    with pytest.raises(InvalidInput, match="doesn't match its size"):
        extract_mesh(tmp_path / "a.stl", "stl")


def test_the_demo_mesh(real_data: Path) -> None:
    found = extract_mesh(real_data / "demo" / "mesh.ply", "ply")
    assert (found["vertexCount"], found["faceCount"]) == (7564, 15_000)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_empty_rows_count_as_one_byte_each(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.ply").write_text(
        f"ply\nformat {encoding} 1.0\nelement vertex {2**60}\nend_header\n", encoding="ascii"
    )
    with pytest.raises(InvalidInput, match="1,152,921,504,606,846,976") as caught:
        extract_mesh(tmp_path / "a.ply", "ply")
    assert caught.value.code == "damaged-model"


def test_an_obj_may_be_written_with_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("v\t0 0 0\nv\t1 0 0\nv 0 1 0\nvt\t0 0\nf\t1 2 3\n", encoding="ascii")
    found = extract_mesh(tmp_path / "a.obj", "obj")
    assert (found["vertexCount"], found["faceCount"], found["hasTextureCoordinates"]) == (3, 1, True)

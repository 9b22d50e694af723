"""GLB of PLY and STL: every encoding, coordinates, colours and textures, read back by a decoder."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.derivatives.glb.meshes import build, corners_of, images_of, parts_of, terrain

from aerotask.domain.errors import InvalidInput

ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
ENCODINGS = ("ascii", *ORDERS)


def write_ply(
    path: Path, encoding: str, vertices: list[tuple[Any, ...]], faces: list[list[int]], **form: str
) -> Path:
    """A PLY with double coordinates and colours of bytes."""
    path.parent.mkdir(exist_ok=True)
    header = (
        f"ply\nformat {encoding} 1.0\n{form.get('comments', '')}element vertex {len(vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    if encoding == "ascii":
        lines = [" ".join(map(str, vertex)) for vertex in vertices]
        lines += [" ".join(map(str, [len(face), *face])) for face in faces]
        path.write_text(header + "\n".join(lines) + "\n", encoding="ascii")
    else:
        order = ORDERS[encoding]
        rows = [struct.pack(f"{order}dddBBB", *vertex) for vertex in vertices]
        rows += [struct.pack(f"{order}B{len(face)}i", len(face), *face) for face in faces]
        path.write_bytes(header.encode() + b"".join(rows))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_ply_with_doubles_and_colours_has_every_face_in_its_place(tmp_path: Path, encoding: str) -> None:
    positions, triangles = terrain()
    vertices = [(*map(float, xyz), 255, 0, number) for number, xyz in enumerate(positions)]
    source = write_ply(tmp_path / "a" / "a.ply", encoding, vertices, triangles.tolist())
    facts, made = build(source)
    [part] = parts_of(made)
    assert corners_of(part) == corners_of({"xyz": positions, "faces": triangles})
    assert facts["bounds"] == pytest.approx([*positions.min(axis=0), *positions.max(axis=0)])
    assert facts["colours"]
    assert (part["COLOR_0"][:, 0] == 65535).all()
    assert (part["COLOR_0"][:, 1] == 0).all()
    assert sorted(part["COLOR_0"][:, 2]) == sorted(set(part["COLOR_0"][:, 2]))
    assert "KHR_materials_unlit" in part["material"]["extensions"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_faces_of_several_sizes_are_cut_into_triangles(tmp_path: Path, encoding: str) -> None:
    vertices = [(x, y, 0.0, 9, 9, 9) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1), (0.5, 2))]
    faces = [[0, 1, 2], [0, 1, 2, 3], [0, 1], [0, 1, 2, 4, 3], [3, 2, 4]]
    facts, _ = build(write_ply(tmp_path / "a" / "a.ply", encoding, vertices, faces))
    assert facts["faces"] == 1 + 2 + 3 + 1
    assert facts["warnings"] == ["1 faces have fewer than three corners and are left out."]


def test_a_ply_with_texture_coordinates_of_corners_has_its_textures(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment TextureFile a one.png\ncomment TextureFile a_two.jpg\n"
        "element vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 2\nproperty list uchar int vertex_indices\nproperty list uchar float texcoord\n"
        "property int texnumber\nend_header\n"
    )
    body = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4").tobytes()
    body += struct.pack("<B3iB6fi", 3, 0, 1, 2, 6, 0, 0, 0.5, 0, 0.5, 0.25, 1)
    body += struct.pack("<B3iB6fi", 3, 0, 2, 3, 6, 0, 0, 1, 1, 0, 1, 0)
    (tmp_path / "a" / "a.ply").write_bytes(header.encode() + body)
    Image.new("RGB", (16, 8)).save(tmp_path / "a" / "a one.png")
    Image.new("RGB", (32, 64)).save(tmp_path / "a" / "a_two.jpg")
    facts, made = build(tmp_path / "a" / "a.ply")
    parts = parts_of(made)
    assert [part["material"]["name"] for part in parts] == ["a one.png", "a_two.jpg"]
    assert [image.size for image in images_of(made)] == [(16, 8), (32, 64)]
    assert corners_of(parts[1], "TEXCOORD_0") == [[(0, 1), (0.5, 1), (0.5, 0.75)]]
    assert facts["warnings"] == []


def test_a_ply_with_texture_coordinates_of_vertices_has_its_texture(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.ply").write_text(
        "ply\r\nformat ascii 1.0\r\ncomment TextureFile a.png\r\nelement vertex 3\r\nproperty float x\r\n"
        "property float y\r\nproperty float z\r\nproperty float s\r\nproperty float t\r\nelement face 1\r\n"
        "property list uchar uint vertex_index\r\nend_header\r\n0 0 0 0 0\r\n1 0 0 1 0\r\n0 1 0 0 1\r\n3 0 1 2\r\n",
        encoding="ascii",
        newline="",
    )
    Image.new("RGB", (16, 8)).save(tmp_path / "a" / "a.png")
    facts, made = build(tmp_path / "a" / "a.ply")
    assert corners_of(parts_of(made)[0], "TEXCOORD_0") == [[(0, 0), (0, 1), (1, 1)]]
    assert facts["textures"] == [{"name": "a.png", "width": 16, "height": 8}]


HEAD = "ply\nformat {} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
FACES = "element face {}\nproperty list uchar int vertex_indices\n"
POINTS = np.zeros((3, 3), "<f4").tobytes()
LITTLE = HEAD.format("binary_little_endian", 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"no mesh", "no PLY header"),
        (b"ply\nformat ascii 1.0\n", "no PLY header"),
        (b"ply\nend_header\n", "PLY header is invalid"),
        (HEAD.format("morse", 3).encode() + b"end_header\n", "PLY header is invalid"),
        (LITTLE.encode() + b"end_header\n" + POINTS, "no faces"),
        ((LITTLE + FACES.format(1)).encode() + b"end_header\n" + POINTS, "shorter than its header says"),
        (
            (LITTLE + FACES.format(9)).encode() + b"end_header\n" + POINTS + b"\3",
            "shorter than its header says",
        ),
        (
            (LITTLE + FACES.format(1)).encode() + b"end_header\n" + POINTS + struct.pack("<B3i", 3, 0, 1, 3),
            "faces name vertices that it doesn't have",
        ),
        (
            (LITTLE + FACES.format(1)).encode() + b"end_header\n" + POINTS + struct.pack("<B3i", 3, 0, 1, -1),
            "faces name vertices that it doesn't have",
        ),
        ((HEAD.format("ascii", 1) + FACES.format(1)).encode() + b"end_header\n0 0 x\n", "a number should be"),
        ((HEAD.format("ascii", 1) + FACES.format(1)).encode() + b"end_header\n0 0 0\n3 0", "shorter than"),
        ((HEAD.format("ascii", 1) + FACES.format(1)).encode() + b"end_header\n0 0 0\n-3 0", "shorter than"),
        (
            (LITTLE + FACES.format(1) + "property list uchar q q\n").encode() + b"end_header\n",
            "PLY header is invalid",
        ),
        (
            (LITTLE + "property quad q\n" + FACES.format(1)).encode() + b"end_header\n",
            "PLY header is invalid",
        ),
    ],
)
def test_a_damaged_ply_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.ply").write_bytes(content)
    with pytest.raises(InvalidInput, match=words) as refused:
        build(tmp_path / "a" / "a.ply")
    assert refused.value.code == "unreadable-mesh"


def test_a_ply_that_declares_too_much_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    header = HEAD.format("binary_little_endian", 2**49) + FACES.format(1) + "end_header\n"
    (tmp_path / "a" / "a.ply").write_text(header, encoding="ascii")
    with pytest.raises(InvalidInput) as refused:
        build(tmp_path / "a" / "a.ply")
    assert refused.value.code == "mesh-too-large"


@pytest.mark.parametrize("is_text", [True, False])
def test_an_stl_has_every_face_with_joined_corners(tmp_path: Path, is_text: bool) -> None:  # noqa: FBT001
    (tmp_path / "a").mkdir()
    positions, triangles = terrain()
    corners = (positions - positions[0])[triangles].astype("<f4")
    if is_text:
        lines = ["solid a"]
        for face in corners:
            lines += ["  facet normal 0 0 1", "    outer loop"]
            lines += ["      vertex " + " ".join(map(repr, map(float, corner))) for corner in face]
            lines += ["    endloop", "  endfacet"]
        (tmp_path / "a" / "a.stl").write_text("\n".join([*lines, "endsolid a"]), encoding="ascii")
    else:
        rows = [b"\0" * 12 + face.tobytes() + b"\0\0" for face in corners]
        (tmp_path / "a" / "a.stl").write_bytes(b"\0" * 80 + struct.pack("<I", len(rows)) + b"".join(rows))
    facts, made = build(tmp_path / "a" / "a.stl")
    [part] = parts_of(made)
    assert (facts["faces"], facts["vertices"]) == (128, 81)
    assert corners_of(part) == corners_of({"xyz": positions - positions[0], "faces": triangles})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0" * 80 + struct.pack("<I", 3) + b"\0" * 100, "triangle count doesn't match"),
        (b"solid a\nvertex 0 0 0\nvertex 1 0 0\nendsolid", "last face is incomplete"),
        (b"solid a\nvertex 0 0\n", "three coordinates"),
        (b"solid a\nendsolid", "no faces"),
    ],
)
def test_a_damaged_stl_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.stl").write_bytes(content)
    with pytest.raises(InvalidInput, match=words) as refused:
        build(tmp_path / "a" / "a.stl")
    assert refused.value.code == "unreadable-mesh"


def test_the_real_mesh_becomes_a_glb(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mesh.ply").write_bytes((real_data / "demo" / "mesh.ply").read_bytes())
    facts, made = build(tmp_path / "a" / "mesh.ply")
    assert (facts["faces"] + sum("left out" in each for each in facts["warnings"]), facts["colours"]) == (
        15000,
        True,
    )
    assert sum(len(part["faces"]) for part in parts_of(made)) == facts["faces"]

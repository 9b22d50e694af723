"""GLB of GLB: its triangles compressed, everything else as it is."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.derivatives.glb.meshes import (
    build,
    corners_of,
    glb,
    images_of,
    parts_of,
    scene_of,
    terrain,
    write_odm,
)

from aerotask.domain.errors import InvalidInput

POSITIONS = (terrain()[0] - terrain()[0][0]).astype("<f4")
TRIANGLES = terrain()[1]


def plain(**changes: Any) -> bytes:
    """A lit, textured terrain with an animation of its node, none of it compressed."""
    encoded = io.BytesIO()
    Image.new("RGB", (12, 6), (9, 99, 199)).save(encoded, "PNG")
    uvs = (POSITIONS[:, :2] / 4).astype("<f4")
    normals = np.tile(np.array([0, 0, 1], "<f4"), (81, 1))
    times, moves = np.array([0, 1], "<f4"), np.array([[0, 0, 0], [1, 2, 3]], "<f4")
    views, binary = [], b""
    for content in (POSITIONS, uvs, normals, TRIANGLES.astype("<u2"), encoded.getvalue(), times, moves):
        raw = content if isinstance(content, bytes) else content.tobytes()
        binary += b"\0" * (-len(binary) % 4)
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(raw)})
        binary += raw
    forms = [(5126, "VEC3", 81), (5126, "VEC2", 81), (5126, "VEC3", 81), (5123, "SCALAR", 384)]
    accessors: list[dict[str, Any]] = [
        {"bufferView": view, "componentType": kind, "type": shape, "count": count}
        for view, (kind, shape, count) in enumerate(forms)
    ]
    accessors[0] |= {"min": POSITIONS.min(axis=0).tolist(), "max": POSITIONS.max(axis=0).tolist()}
    accessors += [
        {"bufferView": 5, "componentType": 5126, "type": "SCALAR", "count": 2, "min": [0], "max": [1]},
        {"bufferView": 6, "componentType": 5126, "type": "VEC3", "count": 2},
    ]
    scene = {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [7, 8, 9], "name": "hill"}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0, "TEXCOORD_0": 1, "NORMAL": 2}, "indices": 3, "material": 0}
                ]
            }
        ],
        "materials": [{"name": "grass", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 4, "mimeType": "image/png"}],
        "animations": [
            {
                "samplers": [{"input": 4, "output": 5}],
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "translation"}}],
            }
        ],
        "bufferViews": views,
        "accessors": accessors,
    }
    return glb({**scene, **changes}, binary)


def write(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.glb").write_bytes(content)
    return folder / "a.glb"


def test_a_plain_glb_is_compressed_and_keeps_its_scene(tmp_path: Path) -> None:
    facts, made = build(write(tmp_path / "a", plain()))
    [part] = parts_of(made)
    assert (facts["faces"], facts["vertices"], facts["warnings"]) == (128, 81, [])
    assert 0 < facts["maxError"] < 0.0001
    assert corners_of(part, "POSITION") == corners_of({"POSITION": POSITIONS, "faces": TRIANGLES}, "POSITION")
    assert np.abs(part["NORMAL"] - [0, 0, 1]).max() < 0.01
    assert np.abs(part["TEXCOORD_0"].max(axis=0) - [1, 1]).max() < 0.0001
    scene, binary = scene_of(made)
    assert scene["nodes"] == [{"mesh": 0, "translation": [7, 8, 9], "name": "hill"}]
    assert part["material"]["name"] == "grass"
    assert scene["extensionsRequired"] == ["KHR_draco_mesh_compression"]
    assert [image.size for image in images_of(made)] == [(12, 6)]
    assert facts["textures"] == [{"width": 12, "height": 6}]
    moved = scene["accessors"][scene["animations"][0]["samplers"][0]["output"]]
    view = scene["bufferViews"][moved["bufferView"]]
    assert struct.unpack_from("<6f", binary, view["byteOffset"]) == (0, 0, 0, 1, 2, 3)
    assert len(scene["bufferViews"]) == 4


def test_a_compressed_glb_is_copied(tmp_path: Path) -> None:
    _, once = build(write_odm(tmp_path / "odm"))
    facts, twice = build(write(tmp_path / "again", once.read_bytes()))
    assert (facts["faces"], facts["maxError"]) == (128, 0)
    assert corners_of(parts_of(twice)[1]) == corners_of(parts_of(once)[1])
    assert [image.size for image in images_of(twice)] == [(96, 64), (96, 64)]


def test_a_glb_with_an_unknown_extension_is_copied_and_it_is_named(tmp_path: Path) -> None:
    content = plain(extensionsUsed=["ACME_secret_buffers"])
    facts, made = build(write(tmp_path / "a", content))
    assert facts["warnings"] == ["The GLB is copied as it is, because it uses ACME_secret_buffers."]
    assert (facts["faces"], scene_of(made)[0]["accessors"][0]["count"]) == (128, 81)


def test_a_mesh_that_changes_its_shape_is_left_as_it_is(tmp_path: Path) -> None:
    [mesh] = [
        {"primitives": [{"attributes": {"POSITION": 0}, "indices": 3, "targets": [{"POSITION": 2}]}]},
    ]
    facts, made = build(write(tmp_path / "a", plain(meshes=[mesh])))
    scene, _ = scene_of(made)
    assert (facts["faces"], facts["maxError"]) == (128, 0)
    assert scene["meshes"] == [mesh]
    assert "extensionsUsed" not in scene


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"glTF\2\0\0\0", "it ends in its header"),
        (b"no mesh, but longer than a header", "it has no GLB header"),
        (plain()[:-200], "shorter than its header says"),
        (glb({"buffers": 7, "meshes": []}), "no faces"),
        (glb({"images": [{"uri": "../../secret.png"}]}), "it refers to other files"),
        (glb({"images": [{"\u0075ri": "/etc/passwd"}]}), "it refers to other files"),
        (
            plain(bufferViews=[{"buffer": 0, "byteOffset": 9, "byteLength": 9000}] * 7),
            "bytes that it doesn't have",
        ),
        (plain().replace(b"\x89PNG", b"\x89GNP"), "one of its images is damaged"),
        (plain(bufferViews=[{"buffer": 0, "byteLength": -1}] * 7), "bytes that it doesn't have"),
        (glb({"accessors": [{"count": -1}]}), "its 'accessors' are damaged"),
        (glb({"meshes": 7}), "its 'meshes' are damaged"),
        (glb({"meshes": [{"primitives": [{"attributes": {"POSITION": 7}}]}]}), "doesn't have"),
        (
            plain(meshes=[{"primitives": [{"attributes": {"POSITION": 0}, "indices": 2}]}]),
            "'accessors' are damaged",
        ),
        (
            plain(meshes=[{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 4}, "indices": 3}]}]),
            "differ",
        ),
    ],
)
def test_a_damaged_glb_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        build(write(tmp_path / "a", content))
    assert refused.value.code == "unreadable-mesh"


def test_a_compressed_glb_with_damaged_data_is_the_files_fault(tmp_path: Path) -> None:
    _, made = build(write_odm(tmp_path / "odm"))
    scene, binary = scene_of(made)
    view = scene["bufferViews"][
        scene["meshes"][0]["primitives"][0]["extensions"]["KHR_draco_mesh_compression"]["bufferView"]
    ]
    start = made.read_bytes().index(binary) + view["byteOffset"]
    content = made.read_bytes()
    with pytest.raises(InvalidInput, match="compressed data or its images are damaged"):
        build(write(tmp_path / "a", content[:start] + b"DRACO" + b"\xff" * 40 + content[start + 45 :]))

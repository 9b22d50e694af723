"""GLB of OBJ: shape, materials, textures and colours, read back by a decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.derivatives.glb.meshes import (
    build,
    corners_of,
    images_of,
    parts_of,
    scene_of,
    terrain,
    write_odm,
)

from aerotask.derivatives.glb import scene, text_numbers
from aerotask.derivatives.glb.mtl import texture_name
from aerotask.domain.errors import InvalidInput

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


def write(folder: Path, text: str, name: str = "a.obj") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode())
    return folder / name


def faces_of(folder: Path, text: str) -> list[list[tuple[float, ...]]]:
    _, made = build(write(folder, text))
    return sorted(face for part in parts_of(made) for face in corners_of(part))


def test_a_textured_mesh_of_opendronemap_has_every_face_bounds_and_textures(tmp_path: Path) -> None:
    source = write_odm(tmp_path / "odm")
    facts, made = build(source)
    positions, triangles = terrain()
    assert (facts["faces"], facts["vertices"], facts["materials"]) == (128, 81, 2)
    assert facts["bounds"] == pytest.approx([*positions.min(axis=0), *positions.max(axis=0)], abs=1e-6)
    assert facts["warnings"] == []
    parts = parts_of(made)
    found = sorted(face for part in parts for face in corners_of(part))
    assert found == sorted(corners_of({"xyz": positions, "faces": triangles}))
    everything = np.concatenate([part["xyz"] for part in parts])
    assert np.abs(everything.min(axis=0) - positions.min(axis=0)).max() <= facts["maxError"] < 0.001
    assert [image.size for image in images_of(made)] == [(96, 64), (96, 64)]
    assert [image.getpixel((5, 5))[0] > 150 for image in images_of(made)] == [True, False]  # type: ignore[index]
    assert [each["name"] for each in facts["textures"]] == [
        "odm_textured_model_geo_material0000_map_Kd.png",
        "odm_textured_model_geo_material0001_map_Kd.png",
    ]
    # The image's first row is its uppermost one in glTF.
    lowest = parts[0]["xyz"][:, 1].argmin()
    assert parts[0]["TEXCOORD_0"][lowest, 1] == pytest.approx(1, abs=1e-4)
    assert parts[0]["TEXCOORD_0"][:, 0].max() == pytest.approx(1, abs=1e-4)


def test_the_scene_is_turned_to_y_up_and_has_its_offset_in_whole_numbers(tmp_path: Path) -> None:
    _, made = build(write_odm(tmp_path / "odm"))
    scene, _ = scene_of(made)
    root, child = scene["nodes"]
    assert root["rotation"] == pytest.approx([-(0.5**0.5), 0, 0, 0.5**0.5])
    assert child["translation"] == child["extras"]["offset"] == [512002, 4649002, 100]
    assert scene["extensionsRequired"] == ["KHR_draco_mesh_compression"]
    assert all(each["extensions"] == {"KHR_materials_unlit": {}} for each in scene["materials"])


def test_parts_of_one_mesh_stay_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "FACES_PER_PART", 10)
    facts, made = build(write_odm(tmp_path / "odm"))
    parts = parts_of(made)
    assert (len(parts), sum(len(part["faces"]) for part in parts)) == (14, 128)
    vertices = np.unique(np.concatenate([part["POSITION"] for part in parts]), axis=0)
    assert len(vertices) == facts["vertices"] == 81


def test_the_result_does_not_depend_on_where_the_text_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = build(write_odm(tmp_path / "whole"))
    for chunk_bytes in (50, 97, 1000):
        monkeypatch.setattr(text_numbers, "CHUNK_BYTES", chunk_bytes)
        _, made = build(write_odm(tmp_path / "cut"))
        assert made.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "faces",
    [
        "f 1 2 3 4",
        "f 1/1 2/1 3/1 4/1\nvt 0 0",
        "f 1//1 2//1 3//1 4//1",
        "f 1/1/1 2/2/2 3/3/3 4/4/4\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1",
        "f -4 -3 -2 -1\nv 9 9 9",
        "  f 1 2 \\\n 3 4 # a square",
        "f\t1\t2\t3\nf 1 3 4",
        "f 1/ 2/ 3/\nf 1//2 3 4/1/1\nvt 0 0",
        "o x\ng y\ns off\nf 1 2 3\nl 1 2\nusemtl none\nf 1 3 4",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_polygons_become_triangles_however_they_are_written(tmp_path: Path, faces: str, end: str) -> None:
    assert faces_of(tmp_path / "a", (SQUARE + faces).replace("\n", end)) == [
        [(0, 0, 0), (1, 0, 0), (1, 1, 0)],
        [(0, 0, 0), (1, 1, 0), (0, 1, 0)],
    ]


def test_faces_between_vertices_count_back_from_where_they_are(tmp_path: Path) -> None:
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 5 0 0\nv 6 0 0\nv 5 1 0\nf -3 -2 -1\n"
    assert faces_of(tmp_path / "a", text) == [
        [(0, 0, 0), (1, 0, 0), (0, 1, 0)],
        [(5, 0, 0), (6, 0, 0), (5, 1, 0)],
    ]


@pytest.mark.parametrize("scale", [1, 255])
def test_vertex_colours_are_kept_in_linear_light(tmp_path: Path, scale: int) -> None:
    half = 0.5 * scale
    text = f"v 0 0 0 {scale} 0 {half}\nv 1 0 0 0 {scale} 0\nv 0 1 0 0 0 {scale}\nf 1 2 3\n"
    facts, made = build(write(tmp_path / "a", text))
    [part] = parts_of(made)
    assert facts["colours"]
    first = int(np.abs(part["POSITION"]).sum(axis=1).argmin())
    assert part["COLOR_0"][first] / 65535 == pytest.approx([1, 0, 0.2159], abs=1e-3)
    accessor = scene_of(made)[0]["accessors"][1]
    assert (accessor["componentType"], accessor["normalized"]) == (5123, True)


def test_a_colour_without_a_texture_is_lit_by_the_viewer(tmp_path: Path) -> None:
    source = write(tmp_path / "a", SQUARE + "usemtl red paint\nf 1 2 3 4\n")
    write(tmp_path / "a", "newmtl red paint\nKd 1 0 0.5\n", "a.mtl")
    _, made = build(source)
    [part] = parts_of(made)
    assert part["material"]["name"] == "red paint"
    assert part["material"]["pbrMetallicRoughness"]["baseColorFactor"] == pytest.approx(
        [1, 0, 0.2140, 1], abs=1e-3
    )
    assert "extensions" not in part["material"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("my own texture.jpg", "my own texture.jpg"),
        ('"my own.jpg"', "my own.jpg"),
        ("-s 1 1 1 -o 0.5 0 0 -clamp on a b.png", "a b.png"),
        ("-s 2 a.png", "a.png"),
        ("-mm 0 1 -bm 0.5 -blendu off a.png", "a.png"),
        ("-texres 1024 -imfchan r a.png", "a.png"),
        ("-odd.png", "-odd.png"),
    ],
)
def test_a_texture_is_named_after_its_options(words: str, name: str) -> None:
    assert texture_name(words) == name


@pytest.mark.parametrize(
    "named",
    [
        "A_Skin.PNG",
        "textures/a_skin.png",
        r"C:\work\textures\a_skin.png",
        "/etc/a_skin.png",
        "../../a_skin.png",
    ],
)
def test_a_texture_is_found_beside_the_mesh_whatever_its_folder_and_case(tmp_path: Path, named: str) -> None:
    text = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nusemtl a\nf 1/1 2/2 3/3 4/4\n"
    source = write(tmp_path / "a", "mtllib no other.mtl\n" + SQUARE + text)
    write(tmp_path / "a", f"newmtl a\nmap_Kd {named}\n", "a.mtl")
    Image.new("RGB", (8, 4), (9, 99, 199)).save(tmp_path / "a" / "a_skin.png")
    facts, made = build(source)
    assert facts["textures"] == [{"name": "a_skin.png", "width": 8, "height": 4}]
    assert [image.size for image in images_of(made)] == [(8, 4)]


def test_files_outside_the_meshs_name_and_folder_are_never_read(tmp_path: Path) -> None:
    text = "vt 0 0\nusemtl a\nf 1/1 2/1 3/1 4/1\n"
    source = write(tmp_path / "a", SQUARE + text)
    write(tmp_path / "a", "newmtl a\nmap_Kd ../secret.png\n", "a.mtl")
    for path in (tmp_path / "secret.png", tmp_path / "a" / "secret.png"):
        Image.new("RGB", (8, 4)).save(path)
    facts, made = build(source)
    assert images_of(made) == facts["textures"] == []
    assert facts["warnings"] == [
        "1 textures are missing: 'secret.png'. They must be in the mesh's folder, under names that begin with its name."
    ]


def test_a_missing_library_and_an_unknown_material_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a", "mtllib other lib.mtl\n" + SQUARE + "usemtl wood\nf 1 2 3 4\n")
    facts, _ = build(source)
    assert "'other lib.mtl' isn't in the same folder" in facts["warnings"][0]
    write(tmp_path / "a", "newmtl stone\n", "a.mtl")
    facts, _ = build(source)
    assert facts["warnings"] == ["'a.mtl' has no material 'wood'."]


def test_faces_without_an_area_are_left_out_and_counted(tmp_path: Path) -> None:
    text = SQUARE + "v 1 1 0\nf 1 2 3 4\nf 1 1 2\nf 3 5 1\nf 1 2\n"
    facts, made = build(write(tmp_path / "a", text))
    assert facts["faces"] == sum(len(part["faces"]) for part in parts_of(made)) == 2
    assert facts["warnings"] == [
        "1 faces have fewer than three corners and are left out.",
        "2 faces with two corners in one place have no area and are left out.",
    ]


def test_faces_that_share_an_edge_by_three_are_all_kept(tmp_path: Path) -> None:
    fins = "".join(f"v {x} 1 {x * x}\n" for x in range(5))
    faces = "".join(f"f 1 2 {3 + number}\n" for number in range(5))
    facts, made = build(write(tmp_path / "a", f"v 0 0 0\nv 1 0 0\n{fins}{faces}f 2 1 3\n"))
    assert facts["faces"] == sum(len(part["faces"]) for part in parts_of(made)) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        (SQUARE, "no faces"),
        ("v 0 0\nf 1 1 1", "fewer than three coordinates"),
        ("v 0 0 x\n", "text where a number should be"),
        (SQUARE + "f 1 2 5\n", "faces name vertices that it doesn't have"),
        (SQUARE + "f 0 1 2\n", "faces name vertices that it doesn't have"),
        (SQUARE + "f -5 1 2\n", "faces name vertices that it doesn't have"),
        (SQUARE + f"f 1 2 {2**40}\n", "faces name vertices that it doesn't have"),
        (SQUARE + f"f 1 2 {10**30}\n", "faces name vertices that it doesn't have"),
        (SQUARE + "f 1/7 2/7 3/7\nvt 0 0\n", "faces name vertices that it doesn't have"),
        (SQUARE + "f 1 2 x\n", "text where a number should be"),
        (SQUARE + "v nan 0 0\nf 1 2 5\n", "coordinates that are no numbers"),
        (SQUARE + "v inf 0 0\nf 1 2 5\n", "coordinates that are no numbers"),
        (SQUARE + "v 1e300 0 0\nf 1 2 5\n", "coordinates beyond"),
        (SQUARE + "f 1 1 1\n", "none of its faces has an area"),
        ("v 0 0 0\0\n", "it is not text"),
    ],
)
def test_a_damaged_mesh_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        build(write(tmp_path / "a", text))
    assert refused.value.code == "unreadable-mesh"


def test_endless_meshes_and_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aerotask.derivatives.glb.mesh.MAX_FACES", 3)
    with pytest.raises(InvalidInput) as refused:
        build(write(tmp_path / "a", SQUARE + "f 1 2 3 4\n" * 2))
    assert refused.value.code == "mesh-too-large"
    monkeypatch.setattr(text_numbers, "MAX_LINE_BYTES", 1000)
    with pytest.raises(InvalidInput, match="a line is longer"):
        build(write(tmp_path / "a", SQUARE + "f " + "1 " * 1000))


def test_coordinates_near_the_origin_have_no_offset(tmp_path: Path) -> None:
    facts, made = build(write(tmp_path / "a", SQUARE + "f 1 2 3 4\n"))
    assert facts["offset"] == [0, 0, 0]
    assert facts["bounds"] == [0, 0, 0, 1, 1, 0]
    assert parts_of(made)[0]["xyz"].max() == pytest.approx(1, abs=facts["maxError"])

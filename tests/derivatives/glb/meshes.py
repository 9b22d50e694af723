"""Generated meshes, and the content of a GLB by a decoder."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import DracoPy
import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from aerotask.derivatives.glb.build import build_glb

EAST, NORTH = 512_000.3, 4_649_000.1
"""Corner of the terrain in UTM, which 32-bit floats can't hold."""


def build(source: Path) -> tuple[dict[str, Any], Path]:
    """Properties and file of the GLB, which is beside the source's folder."""
    target = source.parent.with_name(f"{source.parent.name}-made.glb")
    target.unlink(missing_ok=True)
    return build_glb(source, target, on_progress=lambda _share: None), target


def terrain(side: int = 9) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions of a wavy square of `side`² vertices, and its 2 · (side−1)² triangles."""
    x, y = np.meshgrid(np.arange(side) / 2, np.arange(side) / 2)
    positions = np.stack([x + EAST, y + NORTH, np.sin(x) + 100], axis=-1).reshape(-1, 3)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    steps = [0, 1, side, 1, side + 1, side]
    return positions, np.stack([corner + step for step in steps], axis=1).reshape(-1, 3)


def write_odm(folder: Path, *, name: str = "odm_textured_model_geo", texture_suffix: str = "png") -> Path:
    """A textured mesh as OpenDroneMap writes it: two materials, each with an image of its own."""
    folder.mkdir(exist_ok=True)
    positions, triangles = terrain()
    lines = [f"mtllib {name}.mtl"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in positions]
    lines += [f"vt {(x - EAST) / 4:.6f} {(y - NORTH) / 4:.6f}" for x, y, _ in positions]
    lines += ["vn 0 0 1"]
    for number, part in enumerate(np.array_split(triangles + 1, 2)):
        lines.append(f"usemtl material000{number}")
        lines += ["f " + " ".join(f"{each}/{each}/1" for each in corners) for corners in part]
    (folder / f"{name}.obj").write_text("\n".join(lines) + "\n", encoding="ascii")
    images = [f"{name}_material000{number}_map_Kd.{texture_suffix}" for number in (0, 1)]
    (folder / f"{name}.mtl").write_text(
        "".join(
            f"newmtl material000{number}\nKa 1.000000 1.000000 1.000000\nKd 1.000000 1.000000 1.000000\n"
            f"illum 1\nmap_Kd {image}\n"
            for number, image in enumerate(images)
        ),
        encoding="ascii",
    )
    for image, colour in zip(images, ((200, 40, 40), (40, 40, 200)), strict=True):
        Image.new("RGB", (96, 64), colour).save(folder / image)
    return folder / f"{name}.obj"


def scene_of(path: Path) -> tuple[dict[str, Any], bytes]:
    """JSON and bytes of a GLB."""
    content = path.read_bytes()
    magic, version, length, scene_bytes, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    scene = orjson.loads(content[20 : 20 + scene_bytes])
    return scene, content[28 + scene_bytes :]


def glb(scene: dict[str, Any], binary: bytes = b"") -> bytes:
    """A GLB of that scene, whose buffer is added."""
    scene = {"asset": {"version": "2.0"}, **scene, "buffers": [{"byteLength": len(binary)}]}
    text = orjson.dumps(scene)
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + len(binary), len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def view_of(path: Path, number: int) -> bytes:
    scene, binary = scene_of(path)
    view = scene["bufferViews"][number]
    return binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]


def parts_of(path: Path) -> list[dict[str, Any]]:
    """Each primitive: faces, positions in the source's system, and values of its attributes by name."""
    scene, _ = scene_of(path)
    offset = next((node["translation"] for node in scene["nodes"] if "translation" in node), [0, 0, 0])
    parts = []
    for primitive in (each for mesh in scene["meshes"] for each in mesh["primitives"]):
        extension = primitive["extensions"]["KHR_draco_mesh_compression"]
        decoded = DracoPy.decode(view_of(path, extension["bufferView"]))
        values = {each["unique_id"]: each["data"] for each in decoded.attributes}
        attributes = {name: np.asarray(values[number]) for name, number in extension["attributes"].items()}
        for name, number in primitive["attributes"].items():
            assert scene["accessors"][number]["count"] == len(attributes[name])
        assert scene["accessors"][primitive["indices"]]["count"] == 3 * len(decoded.faces)
        parts.append(
            {
                **attributes,
                "faces": decoded.faces,
                "xyz": attributes["POSITION"].astype(float) + offset,
                "material": scene["materials"][primitive["material"]] if "material" in primitive else None,
            }
        )
    return parts


def images_of(path: Path) -> list[Image.Image]:
    """The embedded textures, decoded."""
    scene, _ = scene_of(path)
    images: list[Image.Image] = []
    for each in scene.get("images", []):
        image = Image.open(io.BytesIO(view_of(path, each["bufferView"])))
        image.load()
        images.append(image)
    return images


def corners_of(part: dict[str, Any], name: str = "xyz", decimals: int = 2) -> list[list[tuple[float, ...]]]:
    """The values at each face's corners, each face from its least corner on and all in one order."""
    faces = []
    for face in part[name][part["faces"]].round(decimals) + 0.0:
        corners = [tuple(map(float, corner)) for corner in face]
        first = corners.index(min(corners))
        faces.append(corners[first:] + corners[:first])
    return sorted(faces)

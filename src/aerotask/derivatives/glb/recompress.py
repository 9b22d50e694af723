"""Compression of a GLB: its scene stays as it is, its triangles become Draco's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.glb.container import Glb, GlbWriter, is_count, item, items, open_glb
from aerotask.derivatives.glb.draco import QuantizationGrid, encode, grid_for
from aerotask.derivatives.glb.mesh import check_counts
from aerotask.derivatives.glb.progress import Progress
from aerotask.derivatives.glb.read_back import texture_sizes
from aerotask.derivatives.glb.scene import DRACO

_COMPRESSED = frozenset({DRACO, "EXT_meshopt_compression", "KHR_meshopt_compression"})
# Extensions that refer to nothing by number but textures.
_KNOWN = (
    "KHR_materials_",
    "KHR_texture_",
    "EXT_texture_",
    "KHR_lights_punctual",
    "KHR_mesh_quantization",
    "KHR_xmp",
)
_DTYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_KEPT_EXACTLY = frozenset({"u1", "<u2", "<u4", "<f4"})
_TRIANGLES = 4


@dataclass(slots=True)
class Recompressed:
    """Facts of a GLB that has been compressed or copied."""

    faces: int
    vertices: int
    max_error: float = 0.0
    is_compressed: bool = False
    """Whether any triangles were compressed here."""
    warnings: list[str] = field(default_factory=list)


def recompress(source: Path, target: Path, progress: Progress) -> Recompressed:
    """Write the GLB with compressed triangles to `target`; one that is compressed already is copied.

    Triangles with normals or texture coordinates as whole numbers, with morph targets, or of sparse accessors, and
    files with extensions that are not known here, stay as they are.

    Raises:
        ValueError: it is damaged, or refers to other files.
        InvalidInput: it is too large (`mesh-too-large`).
        TaskFailed: it doesn't decode to as many faces (`derivative-damaged`).
    """
    with open_glb(source) as glb:
        _check_parts(glb)
        faces, vertices = counts_of(glb.scene)
        if not faces:
            raise ValueError("it has no faces, so there is no surface to show")
        check_counts(faces, vertices, source.name)
        made = Recompressed(faces, vertices)
        used = {str(each) for each in glb.scene.get("extensionsUsed", [])}
        unknown = sorted(each for each in used - _COMPRESSED if not each.startswith(_KNOWN))
        if unknown:
            made.warnings.append(f"The GLB is copied as it is, because it uses {', '.join(unknown)[:200]}.")
        if unknown or used & _COMPRESSED:
            shutil.copyfile(source, target)
            return made
        _check_views(glb)
        with GlbWriter(target) as writer:
            writer.finish(_compressed(glb, writer, made, progress))
    return made


def counts_of(scene: Mapping[str, Any]) -> tuple[int, int]:
    """Faces and vertices of the triangles of all meshes, from their accessors.

    Raises:
        ValueError: the scene is damaged.
    """
    faces = vertices = 0
    for primitive in _primitives(dict(scene)):
        corners = item(dict(scene), "accessors", primitive["attributes"].get("POSITION"))["count"]
        vertices += corners
        if "indices" in primitive:
            corners = item(dict(scene), "accessors", primitive["indices"])["count"]
        mode = primitive.get("mode", _TRIANGLES)
        faces += corners // 3 if mode == _TRIANGLES else max(corners - 2, 0) if mode in {5, 6} else 0
    return faces, vertices


def _primitives(scene: dict[str, Any]) -> list[dict[str, Any]]:
    found = [primitive for mesh in items(scene, "meshes") for primitive in items(mesh, "primitives")]
    if not all(isinstance(each.get("attributes"), dict) for each in found):
        raise ValueError("its 'primitives' are damaged")
    return found


def _check_parts(glb: Glb) -> None:
    parts = [*items(glb.scene, "buffers"), *items(glb.scene, "images")]
    if any(not str(part.get("uri", "data:")).startswith("data:") for part in parts):
        raise ValueError("it refers to other files; export it as one file")
    for accessor in items(glb.scene, "accessors"):
        if not is_count(accessor.get("count")):
            raise ValueError("its 'accessors' are damaged")
    texture_sizes(glb)


def _check_views(glb: Glb) -> None:
    buffers = items(glb.scene, "buffers")
    if len(buffers) > 1 or any("uri" in each for each in buffers):
        raise ValueError("its bytes are not in one piece; export it as binary glTF")
    for number in range(len(items(glb.scene, "bufferViews"))):
        glb.view(number)


def _compressed(glb: Glb, writer: GlbWriter, made: Recompressed, progress: Progress) -> dict[str, Any]:
    """Write the compressed triangles and what is left; the new scene."""
    scene = dict(glb.scene)
    scene["accessors"] = [dict(each) for each in items(scene, "accessors")]
    done, meshes = 0, []
    for mesh in items(glb.scene, "meshes"):
        parts = [(each, _attributes(glb, each)) for each in items(mesh, "primitives")]
        whole = [attributes["POSITION"] for _, attributes in parts if attributes is not None]
        grid = grid_for(np.concatenate(whole)) if whole else None
        primitives = []
        for primitive, attributes in parts:
            primitives.append(
                primitive
                if attributes is None or grid is None
                else _compressed_part(glb, scene, writer, primitive, attributes, grid, made)
            )
            done += 1
        meshes.append({**mesh, "primitives": primitives})
        progress(done / max(len(_primitives(glb.scene)), 1))
    scene["meshes"] = meshes
    if made.is_compressed:
        for name in ("extensionsUsed", "extensionsRequired"):
            scene[name] = sorted({*glb.scene.get(name, []), DRACO})
    kept = _used_accessors(scene)
    dropped = {
        view
        for number, accessor in enumerate(scene["accessors"])
        if number not in kept
        for view in [accessor.pop("bufferView", None)]
        if view is not None
    }
    for number, accessor in enumerate(scene["accessors"]):
        if number not in kept:
            accessor.pop("byteOffset", None)
            accessor.pop("sparse", None)
    still = {each.get("bufferView") for each in (*scene["accessors"], *items(scene, "images"))}
    still |= {
        part.get("bufferView")
        for each in scene["accessors"]
        for part in (each.get("sparse", {}).get("indices", {}), each.get("sparse", {}).get("values", {}))
    }
    _copy_views(glb, writer, frozenset(dropped - still), scene)
    return scene


def _attributes(glb: Glb, primitive: dict[str, Any]) -> dict[str, NDArray[Any]] | None:
    """The values of all attributes; None if the primitive stays as it is."""
    if (
        primitive.get("mode", _TRIANGLES) != _TRIANGLES
        or primitive.get("targets")
        or primitive.get("extensions")
    ):
        return None
    accessors = [item(glb.scene, "accessors", each) for each in primitive["attributes"].values()]
    if "indices" in primitive:
        accessors.append(item(glb.scene, "accessors", primitive["indices"]))
    if any("sparse" in each or "bufferView" not in each or each.get("extensions") for each in accessors):
        return None
    values = {name: _values(glb, number) for name, number in primitive["attributes"].items()}
    if not all(
        each.dtype.str.lstrip("|<") in {kind.lstrip("<") for kind in _KEPT_EXACTLY}
        for each in values.values()
    ):
        return None
    exact = [values[name] for name in ("POSITION", "NORMAL", "TEXCOORD_0") if name in values]
    if "POSITION" not in values or any(each.dtype != np.float32 for each in exact):
        return None
    if len({len(each) for each in values.values()}) != 1:
        raise ValueError("its attributes differ in length")
    if not all(np.isfinite(each).all() for each in exact):
        raise ValueError("it has coordinates that are no numbers")
    return values


def _compressed_part(  # noqa: PLR0913, PLR0917  the parts of a conversion
    glb: Glb,
    scene: dict[str, Any],
    writer: GlbWriter,
    primitive: dict[str, Any],
    attributes: dict[str, NDArray[Any]],
    grid: QuantizationGrid,
    made: Recompressed,
) -> dict[str, Any]:
    vertices = len(attributes["POSITION"])
    corners = _values(glb, primitive["indices"]) if "indices" in primitive else np.arange(vertices)[:, None]
    if corners.shape[1] != 1 or corners.dtype.kind == "f":
        raise ValueError("its 'accessors' are damaged")
    corners = corners[:, 0]
    if corners.size and int(corners.max()) >= vertices:
        raise ValueError("its faces name vertices that it doesn't have")
    triangles = corners[: len(corners) // 3 * 3].reshape(-1, 3).astype(np.int64)
    places = attributes["POSITION"][triangles]
    has_area = (places != np.roll(places, 1, axis=1)).any(axis=2).all(axis=1)
    dropped = int((~has_area).sum())
    if dropped == len(triangles):
        return primitive
    if dropped:
        made.faces -= dropped
        made.warnings.append(
            f"{dropped:,} faces with two corners in one place have no area and are left out."
        )
    part = encode(attributes, triangles[has_area], grid)
    made.max_error, made.is_compressed = max(made.max_error, grid.max_error), True
    numbers = {}
    for name, old in primitive["attributes"].items():
        form = {
            key: value
            for key, value in item(glb.scene, "accessors", old).items()
            if key not in {"bufferView", "byteOffset", "min", "max"}
        }
        form["count"] = part.decoded.vertices
        if name == "POSITION":
            form |= {"min": list(part.decoded.least_xyz), "max": list(part.decoded.most_xyz)}
        numbers[name] = len(scene["accessors"])
        scene["accessors"].append(form)
    scene["accessors"].append({"componentType": 5125, "type": "SCALAR", "count": 3 * part.decoded.faces})
    extension = {"bufferView": -1 - writer.add(part.content), "attributes": dict(part.attributes)}
    return {
        **primitive,
        "attributes": numbers,
        "indices": len(scene["accessors"]) - 1,
        "extensions": {DRACO: extension},
    }


def _values(glb: Glb, number: Any) -> NDArray[Any]:
    """The values of an accessor; shape (count, components)."""
    accessor = item(glb.scene, "accessors", number)
    kind, width = _DTYPES.get(accessor.get("componentType", 0)), _WIDTHS.get(str(accessor.get("type")))
    if kind is None or width is None:
        raise ValueError("its 'accessors' are damaged")
    dtype, count, start = np.dtype(kind), accessor["count"], accessor.get("byteOffset", 0)
    view = item(glb.scene, "bufferViews", accessor["bufferView"])
    stride = view.get("byteStride") or dtype.itemsize * width
    content = glb.view(accessor["bufferView"])
    if not is_count(start) or not is_count(stride) or stride < dtype.itemsize * width:
        raise ValueError("its 'accessors' are damaged")
    if count and start + stride * (count - 1) + dtype.itemsize * width > len(content):
        raise ValueError("it refers to bytes that it doesn't have")
    if not count:
        return np.empty((0, width), dtype)
    strided = np.ndarray((count, width), dtype, content, start, (stride, dtype.itemsize))
    return strided.copy()


def _used_accessors(scene: dict[str, Any]) -> set[int]:
    used: set[Any] = set()
    for primitive in _primitives(scene):
        used |= {*primitive["attributes"].values(), primitive.get("indices")}
        used |= {number for each in primitive.get("targets", []) for number in each.values()}
    used |= {each.get("inverseBindMatrices") for each in items(scene, "skins")}
    for animation in items(scene, "animations"):
        for sampler in items(animation, "samplers"):
            used |= {sampler.get("input"), sampler.get("output")}
    return used - {None}


def _copy_views(glb: Glb, writer: GlbWriter, dropped: frozenset[int], scene: dict[str, Any]) -> None:
    """Write the other buffer views after those that were added, and give both their numbers in the scene."""
    numbers = {-1 - number: number for number in range(len(writer.views))}
    for number, view in enumerate(items(glb.scene, "bufferViews")):
        if number not in dropped:
            more = {
                key: value for key, value in view.items() if key not in {"buffer", "byteOffset", "byteLength"}
            }
            numbers[number] = writer.add(glb.view(number), **more)
    for holder in _view_holders(scene):
        holder["bufferView"] = numbers[holder["bufferView"]]


def _view_holders(scene: dict[str, Any]) -> list[dict[str, Any]]:
    """The scene's objects that refer to a buffer view, each once; those of the source are copied before."""
    scene["images"] = [dict(each) for each in items(scene, "images")]
    holders = [*scene["accessors"], *scene["images"]]
    for accessor in scene["accessors"]:
        if "sparse" in accessor:
            accessor["sparse"] = {
                key: dict(value) if isinstance(value, dict) else value
                for key, value in accessor["sparse"].items()
            }
            holders += [each for each in accessor["sparse"].values() if isinstance(each, dict)]
    holders += [
        each["extensions"][DRACO]
        for each in _primitives(scene)
        if DRACO in each.get("extensions", {}) and each["extensions"][DRACO]["bufferView"] < 0
    ]
    if not scene["images"]:
        del scene["images"]
    return [each for each in holders if "bufferView" in each]

"""Writer of a mesh as GLB: parts by material, textures, and the node that turns it from Z-up to glTF's Y-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.glb.container import GlbWriter
from aerotask.derivatives.glb.draco import Encoded, encode, grid_for
from aerotask.derivatives.glb.mesh import Material, Mesh
from aerotask.derivatives.glb.progress import Progress
from aerotask.derivatives.glb.textures import read_texture

GENERATOR = "Aerotask"
DRACO = "KHR_draco_mesh_compression"
FACES_PER_PART = 500_000
"""Faces that are compressed at once, which bounds the memory."""
MAX_LOCAL = 4096.0
"""Distance from the origin up to which 32-bit floats hold half a thousandth unit."""
_UNLIT = "KHR_materials_unlit"
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_Z_UP_TO_Y_UP = [-(0.5**0.5), 0.0, 0.0, 0.5**0.5]
_SIXTEEN_BITS = 65535


@dataclass(slots=True)
class Written:
    """Facts of a GLB that has been written."""

    faces: int
    vertices: int
    bounds: tuple[tuple[float, ...], tuple[float, ...]]
    """Least and greatest coordinates in the source's own system, xyz."""
    offset_xyz: tuple[float, float, float]
    max_error: float
    textures: list[dict[str, Any]] = field(default_factory=list)
    materials: int = 0
    warnings: list[str] = field(default_factory=list)


def write_mesh(
    mesh: Mesh, textures: Mapping[str, Path], target: Path, *, name: str, progress: Progress
) -> Written:
    """Write a checked mesh as GLB to `target`; `textures` are the files of those that exist.

    Raises:
        TaskFailed: a part doesn't decode to as many faces (`derivative-damaged`).
        InvalidInput: it would be larger than 4 GiB (`mesh-too-large`).
    """
    used = np.zeros(len(mesh.positions_xyz), bool)
    used[mesh.triangles.reshape(-1)] = True
    least, most = mesh.positions_xyz[used].min(axis=0), mesh.positions_xyz[used].max(axis=0)
    offset = _offset(least, most)
    local = (mesh.positions_xyz - offset).astype(np.float32)
    grid = grid_for(local[used])
    x, y, z = map(float, offset)
    written = Written(
        faces=len(mesh.triangles),
        vertices=int(used.sum()),
        bounds=(tuple(map(float, least)), tuple(map(float, most))),
        offset_xyz=(x, y, z),
        max_error=grid.max_error,
        warnings=mesh.warnings,
    )
    with GlbWriter(target) as writer:
        scene = _Scene(writer, written, textures, has_colours=mesh.colours_srgb is not None)
        done = 0
        for material, faces in _parts(mesh):
            attributes, triangles = _part(mesh, local, faces)
            part = encode(attributes, triangles, grid)
            scene.add_part(part, attributes, mesh.materials[material])
            done += len(faces)
            progress(done / len(mesh.triangles))
        written.materials = len(scene.materials)
        writer.finish(scene.finished(name))
    return written


def _offset(least: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers to subtract, so that 32-bit floats can hold what is left; 0 if they can anyway."""
    if max(np.abs(least).max(), np.abs(most).max()) <= MAX_LOCAL:
        return np.zeros(3)
    return np.floor((least + most) / 2)


def _parts(mesh: Mesh) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Faces of one material, so many that they can be compressed at once."""
    if mesh.material_of is None:
        groups = [(0, np.arange(len(mesh.triangles)))]
    else:
        order = np.argsort(mesh.material_of, kind="stable")
        ids, starts = np.unique(mesh.material_of[order], return_index=True)
        groups = list(zip(map(int, ids), np.split(order, starts[1:]), strict=True))
    for material, faces in groups:
        for start in range(0, len(faces), FACES_PER_PART):
            yield material, faces[start : start + FACES_PER_PART]


def _part(
    mesh: Mesh, local: NDArray[np.float32], faces: NDArray[np.int64]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Attributes of the faces' vertices by name in glTF, and the triangles.

    A vertex with several texture coordinates becomes several.
    """
    positions = mesh.triangles[faces].reshape(-1).astype(np.int64)
    uvs = None if mesh.uv_triangles is None or mesh.uvs is None else mesh.uv_triangles[faces].reshape(-1)
    if uvs is None or mesh.uvs is None or not (uvs >= 0).any():
        unique, corners = np.unique(positions, return_inverse=True)
        attributes: dict[str, NDArray[Any]] = {"POSITION": local[unique]}
    else:
        step = len(mesh.uvs) + 1
        pairs, corners = np.unique(positions * step + uvs + 1, return_inverse=True)
        unique, of_pair = pairs // step, pairs % step - 1
        coordinates = np.where(of_pair[:, None] >= 0, mesh.uvs[of_pair], 0)
        # The image's first row is its uppermost one in glTF.
        coordinates[:, 1] = 1 - coordinates[:, 1]
        attributes = {"POSITION": local[unique], "TEXCOORD_0": coordinates}
    if mesh.colours_srgb is not None:
        linear = (_linear(np.arange(256) / 255) * _SIXTEEN_BITS).round().astype(np.uint16)
        attributes["COLOR_0"] = linear[mesh.colours_srgb[unique]]
    return attributes, corners.reshape(-1, 3)


def _linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear from sRGB values, both from 0 to 1 (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


class _Scene:
    """The glTF description so far."""

    def __init__(
        self, writer: GlbWriter, written: Written, textures: Mapping[str, Path], *, has_colours: bool
    ) -> None:
        self._writer = writer
        self._written = written
        self._files = textures
        self._has_colours = has_colours
        self._accessors: list[dict[str, Any]] = []
        self._primitives: list[dict[str, Any]] = []
        self.materials: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._material_ids: dict[str, int] = {}
        self._has_alpha: dict[str, bool | None] = {}
        self._texture_ids: dict[str, int] = {}

    def add_part(self, part: Encoded, attributes: Mapping[str, NDArray[Any]], material: Material) -> None:
        """Add a primitive."""
        counts = {"count": part.decoded.vertices}
        bounds = {"min": list(part.decoded.least_xyz), "max": list(part.decoded.most_xyz)}
        forms: Mapping[str, dict[str, Any]] = {
            "POSITION": {"componentType": _FLOAT, "type": "VEC3", **counts, **bounds},
            "TEXCOORD_0": {"componentType": _FLOAT, "type": "VEC2", **counts},
            "COLOR_0": {"componentType": _USHORT, "normalized": True, "type": "VEC3", **counts},
        }
        numbers = {}
        for name in attributes:
            numbers[name] = len(self._accessors)
            self._accessors.append(forms[name])
        self._accessors.append({"componentType": _UINT, "type": "SCALAR", "count": 3 * part.decoded.faces})
        self._primitives.append(
            {
                "attributes": numbers,
                "indices": len(self._accessors) - 1,
                "material": self._material(material, has_uvs="TEXCOORD_0" in attributes),
                "mode": 4,
                "extensions": {
                    DRACO: {
                        "bufferView": self._writer.add(part.content),
                        "attributes": {name: part.attributes[name] for name in attributes},
                    }
                },
            }
        )

    def finished(self, name: str) -> dict[str, Any]:
        """The whole description, without buffers."""
        uses_unlit = any(_UNLIT in each.get("extensions", {}) for each in self.materials)
        scene = {
            "asset": {"version": "2.0", "generator": GENERATOR},
            "extensionsUsed": [DRACO, *([_UNLIT] if uses_unlit else [])],
            "extensionsRequired": [DRACO],
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [
                {"name": name, "rotation": _Z_UP_TO_Y_UP, "children": [1]},
                {
                    "mesh": 0,
                    "translation": list(self._written.offset_xyz),
                    "extras": {"upAxis": "Z", "offset": list(self._written.offset_xyz)},
                },
            ],
            "meshes": [{"name": name, "primitives": self._primitives}],
            "materials": self.materials,
            "accessors": self._accessors,
        }
        if self._images:
            scene["images"] = self._images
            scene["samplers"] = [{"magFilter": 9729, "minFilter": 9987}]
            scene["textures"] = [{"sampler": 0, "source": source} for source in range(len(self._images))]
        return scene

    def _material(self, material: Material, *, has_uvs: bool) -> int:
        key = f"{material.name}\n{has_uvs}"
        if key in self._material_ids:
            return self._material_ids[key]
        # The light is in the photos already; only plain colours need a viewer's.
        is_photo = self._has_colours
        surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
        described: dict[str, Any] = {"doubleSided": True}
        has_alpha = self._embedded(material.texture) if material.texture and has_uvs else None
        if has_alpha is not None and material.texture:
            surface["baseColorTexture"] = {"index": self._texture_ids[material.texture]}
            if has_alpha:
                described |= {"alphaMode": "MASK", "alphaCutoff": 0.5}
            is_photo = True
        elif not self._has_colours:
            surface["baseColorFactor"] = [*map(float, _linear(np.array(material.colour_srgb))), 1.0]
        if material.name:
            described["name"] = material.name
        if is_photo:
            described["extensions"] = {_UNLIT: {}}
        self._material_ids[key] = len(self.materials)
        self.materials.append({**described, "pbrMetallicRoughness": surface})
        return self._material_ids[key]

    def _embedded(self, named: str) -> bool | None:
        """Embed the texture once; whether it has transparency, None with a warning if it can't be used."""
        if named in self._has_alpha:
            return self._has_alpha[named]
        self._has_alpha[named] = None
        if named not in self._files:
            return None
        try:
            texture = read_texture(self._files[named])
        except ValueError as error:
            self._written.warnings.append(f"A texture is left out: {error}.")
            return None
        if texture.warning:
            self._written.warnings.append(texture.warning)
        file_name = self._files[named].name
        self._has_alpha[named] = texture.has_alpha
        self._texture_ids[named] = len(self._images)
        self._images.append(
            {
                "bufferView": self._writer.add(texture.content),
                "mimeType": texture.media_type,
                "name": file_name,
            }
        )
        size = {"width": texture.width_px, "height": texture.height_px}
        self._written.textures.append({"name": file_name, **size})
        return texture.has_alpha

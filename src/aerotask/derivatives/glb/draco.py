"""Draco compression of triangles (https://google.github.io/draco, in glTF: KHR_draco_mesh_compression)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import DracoPy
import numpy as np
from numpy.typing import NDArray

from aerotask.domain.errors import TaskFailed

LEAST_BITS = 16
MOST_BITS = 21
UV_BITS = 16
NORMAL_BITS = 12
_WANTED_STEP = 0.001
_LEVEL = 5
_POSITION, _NORMAL, _UV = 0, 1, 3  # Draco's types of attributes


@dataclass(frozen=True, slots=True)
class QuantizationGrid:
    """QuantizationGrid that positions are rounded to; one for a whole mesh, so that its parts stay joined."""

    origin_xyz: tuple[float, float, float]
    extent: float
    bits: int

    @property
    def max_error(self) -> float:
        """Maximum difference of a decoded coordinate to the encoded one, with the rounding of 32-bit floats."""
        furthest = max(abs(each) for each in self.origin_xyz) + self.extent
        step = self.extent / (2**self.bits - 1)
        return float(step / 2 + 2 * np.spacing(np.float32(furthest)))


def grid_for(positions_xyz: NDArray[np.floating[Any]]) -> QuantizationGrid:
    """The grid for these positions: steps of a thousandth unit if 21 bits allow that, and at least 16 bits."""
    least, most = positions_xyz.min(axis=0), positions_xyz.max(axis=0)
    extent = max(float((most - least).max()), 1e-6)
    # Rounded up, so that the furthest vertex is within.
    extent = float(np.nextafter(np.float32(extent), np.float32(np.inf)))
    bits = math.ceil(math.log2(extent / _WANTED_STEP))
    x, y, z = map(float, least)
    return QuantizationGrid((x, y, z), extent, min(max(bits, LEAST_BITS), MOST_BITS))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Compressed triangles, and what a decoder makes of them."""

    content: bytes
    attributes: Mapping[str, int]
    """Draco's id of each attribute, by its name in glTF."""
    decoded: Decoded


@dataclass(frozen=True, slots=True)
class Decoded:
    """Counts and bounds of decoded triangles."""

    faces: int
    vertices: int
    least_xyz: tuple[float, ...]
    most_xyz: tuple[float, ...]


def encode(
    attributes: Mapping[str, NDArray[Any]], triangles: NDArray[np.integer[Any]], grid: QuantizationGrid
) -> Encoded:
    """Compress triangles whose corners differ; `attributes` are by name in glTF, `POSITION` among them.

    Positions, normals and the first texture coordinates are rounded; all others are kept exactly.

    Raises:
        TaskFailed: it doesn't decode to as many triangles (`derivative-damaged`).
    """
    others = {
        number: np.ascontiguousarray(values)
        for number, (name, values) in enumerate(attributes.items(), start=100)
        if name not in {"POSITION", "NORMAL", "TEXCOORD_0"}
    }
    ids = {name: number for number, name in enumerate(attributes, start=100) if number in others}
    uvs, normals = attributes.get("TEXCOORD_0"), attributes.get("NORMAL")
    # The second keeps faces that the first gives up, for more bytes.
    for keeps_order in (False, True):
        content = DracoPy.encode(
            np.ascontiguousarray(attributes["POSITION"], np.float32),
            np.ascontiguousarray(triangles, np.uint32),
            quantization_bits=grid.bits,
            compression_level=_LEVEL,
            quantization_range=grid.extent,
            quantization_origin=list(grid.origin_xyz),
            preserve_order=keeps_order,
            tex_coord=None if uvs is None else np.ascontiguousarray(uvs, np.float64),
            tex_coord_quantization_bits=UV_BITS,
            normals=None if normals is None else np.ascontiguousarray(normals, np.float64),
            normal_quantization_bits=NORMAL_BITS,
            generic_attributes=others or None,
        )
        decoded, types = _decode(content)
        if decoded.faces == len(triangles):
            standard = {"POSITION": _POSITION, "NORMAL": _NORMAL, "TEXCOORD_0": _UV}
            ids |= {name: types[standard[name]] for name in attributes if name in standard}
            return Encoded(content, ids, decoded)
    raise TaskFailed(
        f"Draco decodes to {decoded.faces:,} instead of {len(triangles):,} faces.", code="derivative-damaged"
    )


def decode(content: bytes) -> Decoded:
    """Counts and bounds of the compressed triangles.

    Raises:
        ValueError: they can't be decoded.
    """
    return _decode(content)[0]


def _decode(content: bytes) -> tuple[Decoded, dict[int, int]]:
    """Counts and bounds, and the id of the attribute of each type."""
    try:
        mesh = DracoPy.decode(content)
        points = mesh.points
        least, most = (tuple(map(float, each)) for each in (points.min(axis=0), points.max(axis=0)))
        decoded = Decoded(len(mesh.faces), len(points), least, most)
    # DracoPy raises errors of several classes, its own and numpy's.
    except Exception as error:
        raise ValueError("its Draco data can't be decoded") from error
    return decoded, {each["attribute_type"]: each["unique_id"] for each in mesh.attributes}

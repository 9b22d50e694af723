"""Triangle mesh in memory, as the readers of OBJ, PLY and STL give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown

MAX_FACES = 10_000_000
MAX_VERTICES = 10_000_000
MAX_UVS = 3 * MAX_FACES
"""Limits that keep a mesh with its texture coordinates below 1 GB of memory."""


@dataclass(slots=True)
class Material:
    """Material of some faces: a colour, or the texture that replaces it."""

    name: str
    colour_srgb: tuple[float, float, float] = (0.8, 0.8, 0.8)
    """Diffuse colour, each from 0 to 1."""
    texture: str | None = None
    """Path of the texture as the file gives it."""


@dataclass(slots=True)
class Mesh:
    """Triangles with the attributes that a GLB gets; Z points up."""

    positions_xyz: NDArray[np.float64]
    """Shape (vertices, 3)."""
    triangles: NDArray[np.int32]
    """Vertex of each corner; shape (faces, 3)."""
    colours_srgb: NDArray[np.uint8] | None = None
    """Shape (vertices, 3)."""
    uvs: NDArray[np.float32] | None = None
    """Texture coordinates from the image's lower left corner; shape (uvs, 2)."""
    uv_triangles: NDArray[np.int32] | None = None
    """Texture coordinate of each corner, −1 for none; shape (faces, 3)."""
    material_of: NDArray[np.int32] | None = None
    """Material of each face; shape (faces,). All have the first one by default."""
    materials: list[Material] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def checked(mesh: Mesh, name: str) -> Mesh:
    """The mesh, valid and without faces that have no area because two of their corners are in one place.

    Raises:
        InvalidInput: it has no faces, indices of vertices that aren't there, or coordinates that are no numbers
            (`unreadable-mesh`), or it is too large (`mesh-too-large`).
    """
    check_counts(len(mesh.triangles), len(mesh.positions_xyz), name)
    if not len(mesh.triangles):
        raise unreadable(name, "it has no faces, so there is no surface to show")
    check_indices(mesh.triangles, len(mesh.positions_xyz), name, least=0)
    if mesh.uv_triangles is not None and mesh.uvs is not None:
        check_indices(mesh.uv_triangles, len(mesh.uvs), name, least=-1)
    numbers = (mesh.positions_xyz,) if mesh.uvs is None else (mesh.positions_xyz, mesh.uvs)
    if not all(np.isfinite(each).all() for each in numbers):
        raise unreadable(name, "it has coordinates that are no numbers")
    if np.abs(mesh.positions_xyz).max() > 1e12:
        raise unreadable(name, "it has coordinates beyond 10¹²")
    return _without_degenerate(mesh, name)


def check_counts(faces: int, vertices: int, name: str) -> None:
    """Check the limits of a mesh.

    Raises:
        InvalidInput: it is too large (`mesh-too-large`).
    """
    if faces > MAX_FACES or vertices > MAX_VERTICES:
        raise InvalidInput(
            f"{shown(name)} has more than {MAX_FACES:,} faces or {MAX_VERTICES:,} vertices, which no viewer shows as "
            "one file; split or simplify it.",
            code="mesh-too-large",
        )


def check_indices(indices: NDArray[np.integer], count: int, name: str, *, least: int) -> None:
    """Check that each index is from `least` to below `count`.

    Raises:
        InvalidInput: one isn't (`unreadable-mesh`).
    """
    if indices.size and (int(indices.min()) < least or int(indices.max()) >= count):
        raise unreadable(name, "its faces name vertices that it doesn't have")


def fans(corner_counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Corners of the triangles that polygons of these sizes are cut into, each as a fan; shape (triangles, 3).

    The corners of all polygons are numbered one after the other.
    """
    first = np.cumsum(corner_counts) - corner_counts
    per_polygon = np.maximum(corner_counts - 2, 0)
    start = np.repeat(first, per_polygon)
    step = np.arange(len(start)) - np.repeat(np.cumsum(per_polygon) - per_polygon, per_polygon)
    return np.stack([start, start + step + 1, start + step + 2], axis=1)


def concatenated(parts: Sequence[NDArray[Any]], shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """The parts one after the other; of none, an empty array of the shape."""
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(shape, dtype)


def unreadable(name: str, why: str) -> InvalidInput:
    """The error for a file that is no mesh, or a damaged one."""
    return InvalidInput(f"{shown(name)} is not a readable mesh: {why}.", code="unreadable-mesh")


def _without_degenerate(mesh: Mesh, name: str) -> Mesh:
    """Draco drops these faces silently, so they are left out and counted before."""
    local = mesh.positions_xyz - mesh.positions_xyz[mesh.triangles[0, 0]]
    first, second, third = (local.astype(np.float32)[mesh.triangles[:, corner]] for corner in range(3))
    has_area = (first != second).any(axis=1) & (second != third).any(axis=1) & (third != first).any(axis=1)
    dropped = len(has_area) - int(has_area.sum())
    if not dropped:
        return mesh
    if dropped == len(has_area):
        raise unreadable(name, "none of its faces has an area")
    mesh.warnings.append(f"{dropped:,} faces with two corners in one place have no area and are left out.")
    mesh.triangles = mesh.triangles[has_area]
    if mesh.uv_triangles is not None:
        mesh.uv_triangles = mesh.uv_triangles[has_area]
    if mesh.material_of is not None:
        mesh.material_of = mesh.material_of[has_area]
    return mesh

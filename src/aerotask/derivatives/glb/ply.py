"""Reader of PLY: positions, vertex colours, polygons, and texture coordinates of vertices or of corners.

Format: "The PLY Polygon File Format", G. Turk, 1994; texture coordinates as MeshLab and Metashape write them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.glb.mesh import (
    MAX_FACES,
    Material,
    Mesh,
    check_counts,
    check_indices,
    fans,
    unreadable,
)
from aerotask.derivatives.glb.progress import Progress
from aerotask.derivatives.glb.text_numbers import (
    chunks_of_lines,
    counts_per_line,
    parse_numbers,
    token_starts,
)
from aerotask.domain.errors import InvalidInput

MAX_HEADER_BYTES = 64 * 1024
_MAX_LISTS = 8
_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_COLOURS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))
_UVS = (("texture_u", "texture_v"), ("s", "t"), ("u", "v"), ("texcoord_u", "texcoord_v"))


@dataclass(frozen=True, slots=True)
class _PropertyForm:
    name: str
    kind: str
    """numpy's type of the values, without the byte order."""
    count_kind: str | None = None
    """Type of a list's length; None if this is no list."""


@dataclass(frozen=True, slots=True)
class _ElementForm:
    name: str
    count: int
    properties: list[_PropertyForm] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _PlyHeader:
    order: str
    """Byte order of the values, `<` or `>`; empty for text."""
    elements: list[_ElementForm]
    textures: list[str]
    bytes: int


def read_ply(path: Path, progress: Progress) -> Mesh:
    """The mesh; materials are the textures that the header's comments name.

    Raises:
        InvalidInput: it is no PLY with faces, or damaged (`unreadable-mesh`), or too large (`mesh-too-large`).
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file)
            for element in header.elements:
                is_face = element.name == "face"
                check_counts(element.count * is_face, element.count * (not is_face), path.name)
            content, order = _content(path, file, header)
        mesh = _mesh(path.name, content, order, header, progress)
    except InvalidInput:
        raise
    except ValueError as error:
        raise unreadable(path.name, str(error)) from error
    mesh.materials = [Material(name, texture=name) for name in header.textures] or [Material("")]
    return mesh


def _read_header(file: BinaryIO) -> _PlyHeader:
    head = file.read(MAX_HEADER_BYTES)
    ended = re.search(rb"^end_header[ \t]*(\r\n|\n|\r)", head, re.MULTILINE) or re.search(
        rb"[\r\n]end_header[ \t]*(\r\n|\n|\r)", head
    )
    if not head.startswith(b"ply") or not ended:
        raise ValueError("it has no PLY header")
    order: str | None = None
    elements: list[_ElementForm] = []
    textures = []
    for line in head[: ended.start()].decode("utf-8", "replace").splitlines():
        match line.split():
            case ["format", encoding, *_]:
                order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}.get(encoding)
            case ["comment", word, _, *_] if word.lower() == "texturefile":
                textures.append(line.split(None, 2)[2].strip())
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 16:
                elements.append(_ElementForm(name, int(count)))
            case ["property", "list", count_kind, kind, name] if elements and {count_kind, kind} <= set(
                _TYPES
            ):
                elements[-1].properties.append(_PropertyForm(name, _TYPES[kind], _TYPES[count_kind]))
            case ["property", kind, name] if elements and kind in _TYPES:
                elements[-1].properties.append(_PropertyForm(name, _TYPES[kind]))
            case ["element" | "property", *_]:
                raise ValueError("its PLY header is invalid")
    if order is None or not elements:
        raise ValueError("its PLY header is invalid")
    return _PlyHeader(order, elements, textures, ended.end())


def _content(path: Path, file: BinaryIO, header: _PlyHeader) -> tuple[NDArray[np.uint8], str]:
    """Bytes after the header, and their byte order; text becomes doubles, so that both are read alike."""
    if header.order:
        content: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r", offset=0)
        return content[header.bytes :], header.order
    file.seek(header.bytes)
    numbers, total = [np.empty(0)], 0
    for chunk in chunks_of_lines(file):
        text = np.frombuffer(chunk, np.uint8)
        begins = token_starts(text)
        numbers.append(parse_numbers(chunk, int(counts_per_line(text, begins).sum()), np.float64))
        total += len(numbers[-1])
        if total > 12 * MAX_FACES:
            raise ValueError(f"it has more than {12 * MAX_FACES:,} numbers")
    return np.concatenate(numbers).view(np.uint8), ""


def _mesh(name: str, content: NDArray[np.uint8], order: str, header: _PlyHeader, progress: Progress) -> Mesh:
    vertices: NDArray[Any] | None = None
    faces: _Faces | None = None
    offset = 0
    for element in header.elements:
        has_lists = any(each.count_kind for each in element.properties)
        if element.name == "vertex" and not has_lists:
            row = np.dtype([(each.name, _stored(each.kind, order)) for each in element.properties])
            if offset + row.itemsize * element.count > len(content):
                raise ValueError("it is shorter than its header says")
            vertices = np.frombuffer(content, row, element.count, offset)
            offset += row.itemsize * element.count
        else:
            rows = _read_rows(content, offset, element, order, progress)
            offset = rows.end
            faces = _faces(rows) if element.name == "face" else faces
    names = () if vertices is None else vertices.dtype.names or ()
    if vertices is None or not {"x", "y", "z"} <= set(names):
        raise ValueError("it has no vertices")
    if faces is None or not len(faces.corners):
        raise ValueError("it has no faces, so there is no surface to show")
    positions = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float64)
    triangles = fans(faces.sizes)
    check_counts(len(triangles), 0, name)
    check_indices(faces.corners, len(positions), name, least=0)
    mesh = Mesh(
        positions_xyz=positions,
        triangles=faces.corners[triangles].astype(np.int32),
        colours_srgb=_colours(vertices, names),
    )
    too_small = int((faces.sizes < 3).sum())
    if too_small:
        mesh.warnings.append(f"{too_small:,} faces have fewer than three corners and are left out.")
    of_vertices = next((pair for pair in _UVS if set(pair) <= set(names)), None)
    if faces.uvs is not None:
        mesh.uvs = faces.uvs.astype(np.float32)
        mesh.uv_triangles = triangles.astype(np.int32)
    elif of_vertices:
        mesh.uvs = np.stack([vertices[each] for each in of_vertices], axis=1).astype(np.float32)
        mesh.uv_triangles = mesh.triangles
    if faces.texture_of is not None and header.textures:
        per_triangle = np.repeat(faces.texture_of, np.maximum(faces.sizes - 2, 0))
        mesh.material_of = np.clip(per_triangle, 0, len(header.textures) - 1).astype(np.int32)
    return mesh


def _stored(kind: str, order: str) -> str:
    return f"{order}{kind}" if order else "f8"


def _colours(vertices: NDArray[Any], names: tuple[str, ...]) -> NDArray[np.uint8] | None:
    found = next((each for each in _COLOURS if set(each) <= set(names)), None)
    if found is None:
        return None
    values = np.nan_to_num(np.stack([vertices[each] for each in found], axis=1).astype(np.float32))
    stored = vertices.dtype[found[0]]
    if stored.itemsize == 2:
        values /= 257
    elif stored.kind == "f" and values.max(initial=0) <= 1:
        values *= 255
    colours: NDArray[np.uint8] = np.clip(values, 0, 255).round().astype(np.uint8)
    return colours


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of an element with lists: runs of rows of one size."""

    end: int
    runs: list[NDArray[Any]]


def _read_rows(
    content: NDArray[np.uint8], offset: int, element: _ElementForm, order: str, progress: Progress
) -> _Rows:
    """All rows of an element; consecutive rows whose lists have the same lengths are read in one step."""
    if sum(each.count_kind is not None for each in element.properties) > _MAX_LISTS:
        raise ValueError("its PLY header is invalid")
    runs: list[NDArray[Any]] = []
    left, guess = element.count, 1
    while left:
        row = _row_type(content, offset, element, order)
        available = min(left, guess, (len(content) - offset) // row.itemsize if row.itemsize else left)
        if not available:
            raise ValueError("it is shorter than its header says")
        rows = np.frombuffer(content, row, available, offset)
        same = available
        for name in (each for each in row.names or () if each.startswith("#")):
            differ = np.flatnonzero(rows[name] != rows[name][0])
            same = min(same, int(differ[0]) if len(differ) else available)
        runs.append(rows[:same])
        offset += same * row.itemsize
        left -= same
        guess = max(1, 4 * same)
        progress(offset / len(content))
    return _Rows(offset, runs)


def _row_type(content: NDArray[np.uint8], offset: int, element: _ElementForm, order: str) -> np.dtype[Any]:
    """Type of the row at the offset; `#name` is the length of the list `name`."""
    fields: list[Any] = []
    at = offset
    for each in element.properties:
        stored = np.dtype(_stored(each.kind, order))
        if each.count_kind is None:
            fields.append((each.name, stored))
            at += stored.itemsize
            continue
        counted = np.dtype(_stored(each.count_kind, order))
        if at + counted.itemsize > len(content):
            raise ValueError("it is shorter than its header says")
        length = float(np.frombuffer(content, counted, 1, at)[0])
        if not 0 <= length <= len(content) / stored.itemsize or length != int(length):
            raise ValueError("it is shorter than its header says")
        fields += [(f"#{each.name}", counted), (each.name, stored, (int(length),))]
        at += counted.itemsize + int(length) * stored.itemsize
    return np.dtype(fields)


@dataclass(frozen=True, slots=True)
class _Faces:
    """Polygons: corner indices one after the other, and the number of corners of each."""

    corners: NDArray[np.int64]
    sizes: NDArray[np.int64]
    uvs: NDArray[np.float64] | None
    """Texture coordinate of each corner."""
    texture_of: NDArray[np.int64] | None
    """Number of each polygon's texture."""


def _faces(rows: _Rows) -> _Faces:
    corners, sizes, uvs, textures = [], [], [], []
    for run in rows.runs:
        names = run.dtype.names or ()
        indices = next((each for each in ("vertex_indices", "vertex_index") if each in names), None)
        if indices is None:
            raise ValueError("its faces name no vertices")
        per_face = run[indices].shape[1]
        corners.append(run[indices].astype(np.int64).reshape(-1))
        sizes.append(np.full(len(run), per_face, np.int64))
        if "texcoord" in names and run["texcoord"].shape[1] == 2 * per_face:
            uvs.append(run["texcoord"].astype(np.float64).reshape(-1, 2))
        elif "texcoord" in names:
            uvs.append(np.zeros((len(run) * per_face, 2)))
        if "texnumber" in names:
            textures.append(run["texnumber"].astype(np.int64))
    if not corners:
        return _Faces(np.empty(0, np.int64), np.empty(0, np.int64), None, None)
    return _Faces(
        np.concatenate(corners),
        np.concatenate(sizes),
        np.concatenate(uvs) if uvs else None,
        np.concatenate(textures) if textures else None,
    )

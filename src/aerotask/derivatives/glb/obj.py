"""Reader of Wavefront OBJ: positions, vertex colours, texture coordinates, polygons and their materials.

Lines are parsed by numpy, a chunk of some megabytes at a time; curves, lines, points and normals are passed over.
Format: "Object Files (.obj)", Wavefront's Advanced Visualizer, appendix B1.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.glb.mesh import (
    MAX_UVS,
    Material,
    Mesh,
    check_counts,
    concatenated,
    fans,
    unreadable,
)
from aerotask.derivatives.glb.progress import Progress
from aerotask.derivatives.glb.text_numbers import (
    chunks_of_lines,
    counts_per_line,
    line_starts,
    parse_numbers,
    select_lines,
    token_starts,
)
from aerotask.domain.errors import InvalidInput

MAX_MATERIALS = 4096
_MAX_MATERIAL_CHANGES = 1_000_000
_COMMENT = re.compile(rb"^([vf][^#\n]*)#[^\n]*", re.MULTILINE)
_INDENT = re.compile(rb"^[ \t]+", re.MULTILINE)
_LETTERS = {letter: ord(letter) for letter in "fmtuv"}


def read_obj(path: Path, progress: Progress) -> tuple[Mesh, str | None]:
    """The mesh, and the name of its material library as the file gives it.

    Raises:
        InvalidInput: it is no OBJ, or damaged (`unreadable-mesh`), or too large (`mesh-too-large`).
    """
    reader = _ObjReader(path.name)
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        try:
            for chunk in chunks_of_lines(file):
                if b"\0" in chunk:
                    raise unreadable(path.name, "it is not text")
                reader.read(chunk)
                progress(file.tell() / file_bytes)
        except InvalidInput:
            raise
        except ValueError as error:
            raise unreadable(path.name, str(error)) from error
    return reader.mesh(), reader.library


class _ObjReader:
    """Reader of the lines of an OBJ, which keeps what has been read so far."""

    def __init__(self, name: str) -> None:
        self.library: str | None = None
        self._name = name
        self._positions: list[NDArray[np.float64]] = []
        self._colours: list[NDArray[np.uint8]] = []
        self._is_coloured = False
        self._uvs: list[NDArray[np.float32]] = []
        self._triangles: list[NDArray[np.int32]] = []
        self._uv_triangles: list[NDArray[np.int32]] = []
        self._material_of: list[NDArray[np.int32]] = []
        self._vertices = self._uv_count = self._faces = self._changes = self._too_small = 0
        self._materials: dict[str, int] = {}
        self._material = self._material_id("")

    def read(self, chunk: bytes) -> None:
        """Read whole lines."""
        if chunk[:1] in b" \t" or b"\n " in chunk or b"\n\t" in chunk:
            chunk = _INDENT.sub(b"", chunk)
        if b"#" in chunk:
            chunk = _COMMENT.sub(rb"\1", chunk)
        text = np.frombuffer(chunk, np.uint8)
        starts = line_starts(text)
        padded = np.concatenate([text, np.full(2, 10, np.uint8)])
        first, second, third = padded[starts], padded[starts + 1], padded[starts + 2]
        is_v = (first == _LETTERS["v"]) & (second <= 32)
        is_vt = (first == _LETTERS["v"]) & (second == _LETTERS["t"]) & (third <= 32)
        is_f = (first == _LETTERS["f"]) & (second <= 32)
        other = np.flatnonzero(
            ((first == _LETTERS["u"]) & (second == ord("s")) & (third == ord("e")))
            | ((first == _LETTERS["m"]) & (second == _LETTERS["t"]) & (third == ord("l")))
        )
        changes = self._read_words(chunk, starts, other)
        if is_v.any():
            self._read_vertices(select_lines(text, starts, np.flatnonzero(is_v), keyword_bytes=1))
        if is_vt.any():
            self._read_uvs(select_lines(text, starts, np.flatnonzero(is_vt), keyword_bytes=2))
        if is_f.any():
            lines = np.flatnonzero(is_f)
            # Negative indices count back from the vertices above the face.
            seen = (np.cumsum(is_v)[lines] - is_v.sum(), np.cumsum(is_vt)[lines] - is_vt.sum())
            self._read_faces(
                select_lines(text, starts, lines, keyword_bytes=1),
                vertices_above=self._vertices + seen[0],
                uvs_above=self._uv_count + seen[1],
                materials=self._materials_at(lines, changes),
            )
        if changes:
            self._material = changes[-1][1]

    def mesh(self) -> Mesh:
        """The mesh, once everything has been read."""
        positions = concatenated(self._positions, (0, 3), np.float64)
        self._positions = []
        warnings = []
        if self._too_small:
            warnings.append(f"{self._too_small:,} faces have fewer than three corners and are left out.")
        has_uvs = bool(self._uvs) and any((part >= 0).any() for part in self._uv_triangles)
        return Mesh(
            positions_xyz=positions,
            triangles=concatenated(self._triangles, (0, 3), np.int32),
            colours_srgb=np.concatenate(self._colours) if self._is_coloured else None,
            uvs=concatenated(self._uvs, (0, 2), np.float32) if has_uvs else None,
            uv_triangles=concatenated(self._uv_triangles, (0, 3), np.int32) if has_uvs else None,
            material_of=concatenated(self._material_of, (0,), np.int32),
            materials=[Material(name) for name in self._materials],
            warnings=warnings,
        )

    def _read_vertices(self, lines: NDArray[np.uint8]) -> None:
        numbers, counts, first = _numbers_of(lines)
        if counts.min() < 3:
            raise ValueError("a vertex has fewer than three coordinates")
        self._positions.append(numbers[first[:, None] + np.arange(3)])
        colours = np.full((len(counts), 3), 255, np.uint8)
        coloured = counts >= 6
        if coloured.any():
            self._is_coloured = True
            values = np.nan_to_num(numbers[first[coloured][:, None] + np.arange(3, 6)])
            # Most programs write shares from 0 to 1, some bytes.
            colours[coloured] = np.clip(values * (255 if values.max() <= 1 else 1), 0, 255).round()
        self._colours.append(colours)
        self._vertices += len(counts)
        check_counts(0, self._vertices, self._name)

    def _read_uvs(self, lines: NDArray[np.uint8]) -> None:
        numbers, counts, first = _numbers_of(lines)
        if counts.min() < 1:
            raise ValueError("a texture coordinate has no numbers")
        uvs = np.zeros((len(counts), 2), np.float32)
        uvs[:, 0] = numbers[first]
        has_v = counts >= 2
        uvs[has_v, 1] = numbers[first[has_v] + 1]
        self._uvs.append(uvs)
        self._uv_count += len(uvs)
        if self._uv_count > MAX_UVS:
            raise ValueError(f"it has more than {MAX_UVS:,} texture coordinates")

    def _read_faces(
        self,
        lines: NDArray[np.uint8],
        *,
        vertices_above: NDArray[np.int64],
        uvs_above: NDArray[np.int64],
        materials: NDArray[np.int32],
    ) -> None:
        content = lines.tobytes()
        if b"//" in content:
            content = content.replace(b"//", b"/0/")
        if b"/ " in content or b"/\n" in content:
            content = content.replace(b"/ ", b"  ").replace(b"/\n", b" \n")
        text = np.frombuffer(content, np.uint8)
        begins = token_starts(text)
        corners = counts_per_line(text, begins)
        if not corners.any():
            self._too_small += len(corners)
            return
        per_corner = 1 + np.add.reduceat(text == 47, np.flatnonzero(begins), dtype=np.int64)
        numbers = parse_numbers(content.replace(b"/", b" "), int(per_corner.sum()), np.int64)
        first = np.cumsum(per_corner) - per_corner
        of_line = np.repeat(np.arange(len(corners)), corners)
        vertices = _from_zero(numbers[first], vertices_above[of_line])
        has_uv = per_corner >= 2
        uvs = np.full(len(first), -1, np.int64)
        named = numbers[first[has_uv] + 1]
        uvs[has_uv] = np.where(named == 0, -1, _from_zero(named, uvs_above[of_line][has_uv]))
        triangles = fans(corners)
        self._faces += len(triangles)
        self._too_small += int((corners < 3).sum())
        check_counts(self._faces, 0, self._name)
        if abs(numbers).max() >= 2**31 or vertices.min() < 0 or uvs.min() < -1:
            raise ValueError("its faces name vertices that it doesn't have")
        self._triangles.append(vertices[triangles].astype(np.int32))
        self._uv_triangles.append(uvs[triangles].astype(np.int32))
        self._material_of.append(np.repeat(materials, np.maximum(corners - 2, 0)))

    def _read_words(
        self, chunk: bytes, starts: NDArray[np.int64], chosen: NDArray[np.int64]
    ) -> list[tuple[int, int]]:
        """Line and material of each change of the material; notes the library."""
        self._changes += len(chosen)
        if self._changes > _MAX_MATERIAL_CHANGES:
            raise ValueError(f"its material changes more than {_MAX_MATERIAL_CHANGES:,} times")
        changes = []
        for line in chosen:
            start = int(starts[line])
            words = chunk[start : chunk.index(b"\n", start)].decode("utf-8", "replace").split(None, 1)
            if words[0] == "usemtl":
                changes.append((int(line), self._material_id(words[1].strip() if words[1:] else "")))
            elif words[0] == "mtllib" and words[1:]:
                self.library = self.library or words[1].strip()
        return changes

    def _materials_at(self, lines: NDArray[np.int64], changes: list[tuple[int, int]]) -> NDArray[np.int32]:
        at = np.array([-1, *(line for line, _ in changes)])
        materials = np.array([self._material, *(material for _, material in changes)], np.int32)
        return materials[np.searchsorted(at, lines) - 1]

    def _material_id(self, name: str) -> int:
        if len(self._materials) > MAX_MATERIALS:
            raise ValueError(f"it has more than {MAX_MATERIALS:,} materials")
        return self._materials.setdefault(name, len(self._materials))


def _numbers_of(
    lines: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """All numbers, how many each line has, and which is its first."""
    begins = token_starts(lines)
    counts = counts_per_line(lines, begins)
    numbers = parse_numbers(lines.tobytes(), int(begins.sum()), np.float64)
    return numbers, counts, np.cumsum(counts) - counts


def _from_zero(indices: NDArray[np.int64], above: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices from 0, of indices from 1, or from −1 backwards."""
    return np.where(indices < 0, above + indices, indices - 1)

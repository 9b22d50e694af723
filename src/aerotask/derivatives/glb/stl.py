"""Reader of STL, binary and text; corners in the same place become one vertex."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerotask.derivatives.glb.mesh import MAX_FACES, Material, Mesh, check_counts, unreadable
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

_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
_HEAD_BYTES = 84
_KEYWORD = b"vertex"


def read_stl(path: Path, progress: Progress) -> Mesh:
    """The mesh.

    Raises:
        InvalidInput: it is no STL, or damaged (`unreadable-mesh`), or too large (`mesh-too-large`).
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    faces = int.from_bytes(head[80:], "little")
    try:
        if len(head) == _HEAD_BYTES and _HEAD_BYTES + _TRIANGLE.itemsize * faces == path.stat().st_size:
            check_counts(faces, 0, path.name)
            corners = np.fromfile(path, _TRIANGLE, offset=_HEAD_BYTES)["corners"].reshape(-1, 3)
        else:
            corners = _text_corners(path, progress)
    except InvalidInput:
        raise
    except ValueError as error:
        raise unreadable(path.name, str(error)) from error
    if not len(corners):
        raise unreadable(path.name, "it has no faces, so there is no surface to show")
    keys = np.ascontiguousarray(corners + np.float32(0)).view([("", np.float32)] * 3).reshape(-1)
    unique, indices = np.unique(keys, return_inverse=True)
    return Mesh(
        positions_xyz=unique.view(np.float32).reshape(-1, 3).astype(np.float64),
        triangles=indices.reshape(-1, 3).astype(np.int32),
        materials=[Material("")],
    )


def _text_corners(path: Path, progress: Progress) -> NDArray[np.float32]:
    parts, count, file_bytes = [np.empty((0, 3), np.float32)], 0, path.stat().st_size
    with path.open("rb") as file:
        if not file.read(5).startswith(b"solid"):
            raise ValueError("its triangle count doesn't match its size")
        for chunk in chunks_of_lines(file):
            # One line for each corner, whatever its indent.
            lines = [line.strip() for line in chunk.split(b"\n") if line.lstrip().startswith(_KEYWORD)]
            if not lines:
                continue
            text = np.frombuffer(b"\n".join(lines) + b"\n", np.uint8)
            starts = line_starts(text)
            text = select_lines(text, starts, np.arange(len(starts)), keyword_bytes=len(_KEYWORD))
            if (counts_per_line(text, token_starts(text)) != 3).any():
                raise ValueError("a corner has no three coordinates")
            parts.append(
                parse_numbers(text.tobytes(), 3 * len(lines), np.float64).astype(np.float32).reshape(-1, 3)
            )
            count += len(lines)
            check_counts(min(count // 3, MAX_FACES + 1), 0, path.name)
            progress(file.tell() / file_bytes)
    if count % 3:
        raise ValueError("its last face is incomplete")
    return np.concatenate(parts)

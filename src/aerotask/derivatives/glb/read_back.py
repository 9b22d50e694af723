"""Check of a written GLB: every part is decoded, every texture opened, and both are compared with the source."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aerotask.derivatives.glb.container import Glb, item, items, open_glb
from aerotask.derivatives.glb.draco import decode
from aerotask.derivatives.glb.scene import DRACO
from aerotask.derivatives.glb.textures import large_images_allowed
from aerotask.domain.errors import TaskFailed


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Content of a GLB, as a decoder reads it."""

    faces: int
    """Triangles that are compressed by Draco; others are counted by their accessors."""
    least_xyz: tuple[float, ...]
    most_xyz: tuple[float, ...]
    """Bounds of the compressed parts in the coordinates of their nodes."""
    texture_sizes: tuple[tuple[int, int], ...]


def read_back(path: Path) -> ReadBack:
    """Decode the GLB at `path`.

    Raises:
        TaskFailed: it doesn't hold what its description says (`derivative-damaged`).
    """
    try:
        with open_glb(path) as glb:
            return _read(glb)
    except (ValueError, KeyError, OSError) as error:
        raise damaged(str(error)) from error


def check_bounds(
    found: ReadBack, offset: Sequence[float], bounds: Sequence[Sequence[float]], error: float
) -> None:
    """Compare the bounds with the source's.

    Raises:
        TaskFailed: they differ by more than the error (`derivative-damaged`).
    """
    expected = np.asarray(bounds) - np.asarray(offset)
    difference = np.abs(np.asarray([found.least_xyz, found.most_xyz]) - expected).max()
    if not difference <= error:
        raise damaged(f"its bounds are {difference:g} off")


def damaged(why: str) -> TaskFailed:
    """The error for a GLB that doesn't read back."""
    return TaskFailed(f"The GLB doesn't read back correctly: {why}.", code="derivative-damaged")


def _read(glb: Glb) -> ReadBack:
    faces, least, most = 0, [np.full(3, np.inf)], [np.full(3, -np.inf)]
    for mesh in items(glb.scene, "meshes"):
        for primitive in items(mesh, "primitives"):
            accessor = item(glb.scene, "accessors", primitive["attributes"]["POSITION"])
            indexed = (
                item(glb.scene, "accessors", primitive["indices"]) if "indices" in primitive else accessor
            )
            extension = primitive.get("extensions", {}).get(DRACO)
            if extension is not None:
                decoded = decode(bytes(glb.view(extension["bufferView"])))
                if (3 * decoded.faces, decoded.vertices) != (indexed["count"], accessor["count"]):
                    raise ValueError("a part has other counts than described")
                least.append(np.asarray(decoded.least_xyz))
                most.append(np.asarray(decoded.most_xyz))
            mode = primitive.get("mode", 4)
            corners = indexed["count"]
            faces += corners // 3 if mode == 4 else max(corners - 2, 0) if mode in {5, 6} else 0
    return ReadBack(faces, _floats(np.min(least, axis=0)), _floats(np.max(most, axis=0)), texture_sizes(glb))


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(map(float, values))


def texture_sizes(glb: Glb) -> tuple[tuple[int, int], ...]:
    """Widths and heights of the embedded JPEG, PNG and WebP images; others are left to viewers.

    Raises:
        ValueError: one is damaged.
    """
    sizes = []
    for image in items(glb.scene, "images"):
        if "bufferView" not in image or image.get("mimeType") not in {
            "image/jpeg",
            "image/png",
            "image/webp",
        }:
            continue
        content = io.BytesIO(glb.view(image["bufferView"]))
        try:
            with large_images_allowed(), Image.open(content, formats=("JPEG", "PNG", "WEBP")) as opened:
                sizes.append(opened.size)
        except (OSError, SyntaxError) as error:
            raise ValueError("one of its images is damaged") from error
    return tuple(sizes)

"""Derivative sources: an entry's content and that of its side files, such as a Shapefile's `.shx`, a mesh's textures, a world file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import base_name, shown
from aerotask.metadata.file_types import suffix_of
from aerotask.raster.georeference.side_georeference import SIDE_SUFFIXES

_BESIDE: Mapping[str, tuple[str, ...]] = {
    "shp": ("shx", "dbf", "prj", "cpg"),
    "obj": ("mtl",),
    **SIDE_SUFFIXES,
}
OWNED_SIDES = tuple((owner, side) for owner, sides in _BESIDE.items() for side in sides)
"""Pairs of an entry's suffix and a side file's suffix."""
TEXTURED_SUFFIXES = ("obj", "ply")
TEXTURE_SUFFIXES = ("bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp")
_REQUIRED: Mapping[str, tuple[str, ...]] = {"shp": ("shx", "dbf")}


def paths_beside(path: str) -> tuple[str, ...]:
    """Paths of the entry's possible side files, in lower and upper case."""
    stem = path.rpartition(".")[0]
    suffixes = _BESIDE.get(suffix_of(path), ())
    return tuple(f"{stem}.{cased}" for suffix in suffixes for cased in (suffix, suffix.upper()))


def textures_begin_with(path: str) -> str | None:
    """Beginning of the paths of a mesh's textures; None if the entry's format has none.

    OpenDroneMap writes `model_material0000_map_Kd.png` beside `model.obj`, Metashape and Pix4D write `model.jpg`.
    """
    return path[: -len("obj")].removesuffix(".") if suffix_of(path) in TEXTURED_SUFFIXES else None


def side_files(path: str, present: Collection[str]) -> list[str]:
    """Side files of the entry among the `present` paths: those of fixed names, and a mesh's textures."""
    found, start = [other for other in paths_beside(path) if other in present], textures_begin_with(path)
    # Only for meshes are all paths looked at: a dataset may have many thousands of rasters.
    if start is not None:
        found += [other for other in present if other.startswith(start) and _is_texture(other, start)]
    return found


def _is_texture(path: str, start: str) -> bool:
    return "/" not in path[len(start) :] and suffix_of(path) in TEXTURE_SUFFIXES


def check_complete(path: str, present: Mapping[str, object]) -> None:
    """Check that the entry's required side files are `present`.

    Raises:
        InvalidInput: a side file is missing (`missing-side-file`).
    """
    stem = path.rpartition(".")[0]
    for suffix in _REQUIRED.get(suffix_of(path), ()):
        if not {f"{stem}.{suffix}", f"{stem}.{suffix.upper()}"} & set(present):
            raise InvalidInput(
                f"{shown(base_name(path))} can't be read without '{base_name(stem)}.{suffix}' in the same folder; "
                "upload that file too.",
                code="missing-side-file",
            )


def source_key(path: str, hashes: Mapping[str, str]) -> str:
    """Key of the entry's derivatives: it changes whenever the content of the entry or of a side file does.

    `hashes` contains the SHA-256 of the entry and of its existing side files, by path; others are ignored.
    """
    fixed, start = set(paths_beside(path)), textures_begin_with(path) or ""
    beside = [
        (suffix_of(other) if other in fixed else other[len(start) :], hashes[other])
        for other in side_files(path, hashes)
    ]
    if not beside:
        return hashes[path]
    digest = hashlib.sha256(hashes[path].encode())
    for suffix, sha256 in sorted(beside):
        digest.update(f" {suffix}:{sha256}".encode())
    return digest.hexdigest()

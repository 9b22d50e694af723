"""What a derivative is made from: the content of an entry, and of the files beside it that belong to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import base_name, shown
from aerotask.metadata.file_types import suffix_of

_BESIDE: Mapping[str, tuple[str, ...]] = {"shp": ("shx", "dbf", "prj", "cpg"), "obj": ("mtl",)}
OWNED_SIDES = tuple((owner, side) for owner, sides in _BESIDE.items() for side in sides)
"""The suffixes of entries and of files that belong to them, in pairs."""
_NEEDED: Mapping[str, tuple[str, ...]] = {"shp": ("shx",)}


def paths_beside(path: str) -> tuple[str, ...]:
    """The paths at which files that belong to the entry would lie, in small and in capital letters."""
    stem = path.rpartition(".")[0]
    names = _BESIDE.get(suffix_of(path), ())
    return tuple(f"{stem}.{spelt}" for name in names for spelt in (name, name.upper()))


def check_complete(path: str, present: Mapping[str, object]) -> None:
    """Refuse an entry that can't be read without a file that isn't `present` beside it.

    Raises:
        InvalidInput: it names the file (`missing-side-file`).
    """
    stem = path.rpartition(".")[0]
    for name in _NEEDED.get(suffix_of(path), ()):
        if not {f"{stem}.{name}", f"{stem}.{name.upper()}"} & set(present):
            raise InvalidInput(
                f"{shown(base_name(path))} can't be read without '{base_name(stem)}.{name}', which isn't beside it; "
                "upload that too.",
                code="missing-side-file",
            )


def source_key(path: str, hashes: Mapping[str, str]) -> str:
    """What a derivative of the entry is kept under: the same exactly while all contents are the same.

    `hashes` holds the SHA-256 of the entry and of those beside it that there are, by path; others don't matter.
    """
    beside = [(suffix_of(other), hashes[other]) for other in paths_beside(path) if other in hashes]
    if not beside:
        return hashes[path]
    digest = hashlib.sha256(hashes[path].encode())
    for suffix, sha256 in sorted(beside):
        digest.update(f" {suffix}:{sha256}".encode())
    return digest.hexdigest()

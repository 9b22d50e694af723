"""What a child declared, turned into stored blobs and plain values; nothing of it is trusted unseen."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.blobs.port import Blob, BlobStore
from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed
from aerotask.domain.texts import clean_json, clean_line


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact whose content is stored, but which no row names yet."""

    name: str
    media_type: str
    blob: Blob


@dataclass(frozen=True, slots=True)
class StoredPut:
    """An entry to put, its content stored."""

    at: str
    blob: Blob


@dataclass(frozen=True, slots=True)
class Removal:
    """An entry to remove."""

    at: str


@dataclass(frozen=True, slots=True)
class StoredDerivative:
    """A derivative of the input at `of`, its content stored."""

    of: str
    kind: str
    builder: str
    properties: Mapping[str, Any]
    blob: Blob


@dataclass(frozen=True, slots=True)
class StoredChanges:
    """Everything that a run declared, ready to be applied in one transaction."""

    artifacts: tuple[StoredArtifact, ...]
    edits: tuple[StoredPut | Removal, ...]
    result: Mapping[str, Any] | None
    derivatives: tuple[StoredDerivative, ...] = ()

    @property
    def blob_keys(self) -> list[str]:
        """The blobs that no row names until the changes are applied."""
        puts = [edit.blob.key for edit in self.edits if isinstance(edit, StoredPut)]
        made = [derivative.blob.key for derivative in self.derivatives]
        return puts + made + [artifact.blob.key for artifact in self.artifacts]


async def store_outputs(
    blobs: BlobStore, declared: Mapping[str, Any], *, workdir: Path, may_write: Sequence[str]
) -> StoredChanges:
    """Store every declared file.

    Raises:
        TaskFailed: a declaration names what isn't the run's to give (`bad-output`).
        OSError: the storage can't take it.
    """
    edits = [_edit(edit, may_write) for edit in declared["edits"]]
    for made in declared["derivatives"]:
        _refuse_unplanned(str(made["of"]), may_write)
    stored: list[StoredPut | Removal] = []
    for edit in edits:
        if isinstance(edit, Removal):
            stored.append(edit)
        else:
            at, file = edit
            stored.append(StoredPut(at, await blobs.adopt(_own_file(file, workdir))))
    return StoredChanges(
        artifacts=tuple([await _artifact(blobs, artifact, workdir) for artifact in declared["artifacts"]]),
        edits=tuple(stored),
        result=declared["result"],
        derivatives=tuple([await _derivative(blobs, made, workdir) for made in declared["derivatives"]]),
    )


async def _derivative(blobs: BlobStore, declared: Mapping[str, Any], workdir: Path) -> StoredDerivative:
    return StoredDerivative(
        of=str(declared["of"]),
        kind=str(declared["kind"]),
        builder=clean_line(str(declared["builder"])),
        properties=clean_json(declared["properties"]),
        blob=await blobs.adopt(_own_file(declared["path"], workdir)),
    )


async def _artifact(blobs: BlobStore, declared: Mapping[str, Any], workdir: Path) -> StoredArtifact:
    name = paths.file_name(str(declared["name"]))
    media_type = clean_line(str(declared["mediaType"]))
    return StoredArtifact(name, media_type, await blobs.adopt(_own_file(declared["path"], workdir)))


def _edit(declared: Mapping[str, Any], may_write: Sequence[str]) -> tuple[str, str] | Removal:
    at = paths.entry_path(str(declared.get("put") or declared["remove"]))
    _refuse_unplanned(at, may_write)
    return (at, str(declared["path"])) if "put" in declared else Removal(at)


def _refuse_unplanned(at: str, may_write: Sequence[str]) -> None:
    if not any(paths.within(at, allowed) for allowed in may_write):
        raise TaskFailed(
            f"The tool wants to change {paths.shown(at)}, which its plan doesn't name.", code="bad-output"
        )


def _own_file(declared: str, workdir: Path) -> Path:
    path = Path(declared)
    inside = path.parent.resolve().is_relative_to(workdir.resolve())
    try:
        regular = stat.S_ISREG(os.lstat(path).st_mode)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
            raise
        regular = False
    if not (inside and regular):
        raise TaskFailed("The tool declared an output that is not a file of its own.", code="bad-output")
    return path

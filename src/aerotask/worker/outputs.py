"""What a child declared, turned into stored blobs and plain values; nothing of it is trusted unseen."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from aerotask.blobs.blob_store import Blob, BlobStore
from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed
from aerotask.domain.text_cleaning import clean_json, clean_line
from aerotask.sdk.changes import Existing
from aerotask.sdk.plan import raise_if_unplanned

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact whose content is stored, but which no row names yet."""

    name: str
    media_type: str
    blob: Blob


@dataclass(frozen=True, slots=True)
class StoredPut:
    """An entry to put, its content stored, and what becomes of a file that is there."""

    at: str
    blob: Blob
    existing: Existing = Existing.REPLACE


@dataclass(frozen=True, slots=True)
class StoredFolder:
    """A folder to make."""

    at: str


@dataclass(frozen=True, slots=True)
class StoredRemoval:
    """An entry to remove."""

    at: str


StoredEdit: TypeAlias = StoredPut | StoredFolder | StoredRemoval


@dataclass(frozen=True, slots=True)
class _UnstoredPut:
    """An entry to put whose content still lies in the work folder."""

    at: str
    file: Path
    existing: Existing


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
    edits: tuple[StoredEdit, ...]
    result: Mapping[str, Any] | None
    descriptions: Path | None = None
    """A file of the run's work folder, to be read with `read_descriptions`."""
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
    own = _OwnFiles(workdir)
    edits = await _edits(declared["edits"], may_write, own)
    puts = [edit.file for edit in edits if isinstance(edit, _UnstoredPut)]
    stored = iter(await blobs.ingest_all(puts))
    for made in declared["derivatives"]:
        raise_if_unplanned(str(made["of"]), may_write)
    derived = await asyncio.to_thread(lambda: [own.file(made["path"]) for made in declared["derivatives"]])
    return StoredChanges(
        artifacts=tuple([await _artifact(blobs, artifact, own) for artifact in declared["artifacts"]]),
        edits=tuple(
            StoredPut(edit.at, next(stored), edit.existing) if isinstance(edit, _UnstoredPut) else edit
            for edit in edits
        ),
        result=declared["result"],
        descriptions=own.file(told) if (told := declared.get("descriptions")) else None,
        derivatives=tuple(map(_derivative, declared["derivatives"], await blobs.ingest_all(derived))),
    )


def _derivative(declared: Mapping[str, Any], blob: Blob) -> StoredDerivative:
    return StoredDerivative(
        of=str(declared["of"]),
        kind=str(declared["kind"]),
        builder=clean_line(str(declared["builder"])),
        properties=clean_json(declared["properties"]),
        blob=blob,
    )


async def _artifact(blobs: BlobStore, declared: Mapping[str, Any], own: _OwnFiles) -> StoredArtifact:
    name = paths.file_name(str(declared["name"]))
    media_type = clean_line(str(declared["mediaType"]))
    file = await asyncio.to_thread(own.file, declared["path"])
    # The hash of what a tool makes for download is its own to say, as the bytes are.
    blob = await blobs.ingest(file, sha256=_hash(declared.get("sha256")))
    return StoredArtifact(name, media_type, blob)


def _hash(declared: Any) -> str | None:
    if declared is None:
        return None
    if not _SHA256.fullmatch(str(declared)):
        raise TaskFailed("The tool declared a hash that is none.", code="bad-output")
    return str(declared)


async def _edits(
    declared: Sequence[Mapping[str, Any]], may_write: Sequence[str], own: _OwnFiles
) -> list[_UnstoredPut | StoredFolder | StoredRemoval]:
    if not declared:
        return []
    return await asyncio.to_thread(lambda: [_edit(edit, may_write, own) for edit in declared])


def _edit(
    declared: Mapping[str, Any], may_write: Sequence[str], own: _OwnFiles
) -> _UnstoredPut | StoredFolder | StoredRemoval:
    at = paths.entry_path(str(declared.get("put") or declared.get("folder") or declared["remove"]))
    raise_if_unplanned(at, may_write)
    if "put" in declared:
        return _UnstoredPut(at, own.file(declared["path"]), _existing(declared.get("existing")))
    return StoredFolder(at) if "folder" in declared else StoredRemoval(at)


def _existing(declared: Any) -> Existing:
    try:
        return Existing(declared)
    except ValueError:
        raise TaskFailed("The tool declared an entry in a way that there isn't.", code="bad-output") from None


class _OwnFiles:
    """Tells a run's own files from all others; each folder is looked into once."""

    def __init__(self, workdir: Path) -> None:
        self._root = workdir.resolve()
        self._inside: dict[Path, bool] = {}

    def file(self, declared: Any) -> Path:
        """The declared file, if it is a regular one in the work folder."""
        path = Path(str(declared))
        if not (self._is_inside(path.parent) and _is_regular(path)):
            raise TaskFailed("The tool declared an output that is not a file of its own.", code="bad-output")
        return path

    def _is_inside(self, folder: Path) -> bool:
        if folder not in self._inside:
            self._inside[folder] = folder.resolve().is_relative_to(self._root)
        return self._inside[folder]


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
            raise
        return False

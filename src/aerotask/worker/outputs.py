"""Outputs that a child declared, checked and stored; no declaration is trusted without a check."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerotask.blobs.blob_store import Blob, BlobStore
from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed
from aerotask.domain.text_cleaning import clean_line
from aerotask.sdk.changes import (
    Edit,
    Existing,
    PublishedArtifact,
    PutEntry,
    PutFolder,
    RemoveEntry,
    plausible_mtime,
)
from aerotask.sdk.plan import raise_if_unplanned
from aerotask.services.tasks.outcome.changes import StoredChanges

_SHA256 = re.compile(r"[0-9a-f]{64}")


async def store_outputs(
    blobs: BlobStore, declared: Mapping[str, Any], *, workdir: Path, may_write: Sequence[str]
) -> StoredChanges:
    """Check and store every declared file.

    Raises:
        TaskFailed: a declaration is malformed, or names a file or path that isn't the run's (`bad-output`).
        OSError: the storage can't take it.
    """
    own = _OwnFiles(workdir)
    edits = await _edits(declared["edits"], may_write, own)
    puts = [edit.content for edit in edits if isinstance(edit, PutEntry)]
    stored = iter(await blobs.ingest_all(puts))
    return StoredChanges(
        artifacts=tuple([await _artifact(blobs, artifact, own) for artifact in declared["artifacts"]]),
        edits=tuple(
            PutEntry(next(stored), edit.at, edit.existing, edit.mtime) if isinstance(edit, PutEntry) else edit
            for edit in edits
        ),
        result=declared["result"],
        descriptions=own.file(file) if (file := declared.get("descriptions")) else None,
    )


async def _artifact(blobs: BlobStore, declared: Mapping[str, Any], own: _OwnFiles) -> PublishedArtifact[Blob]:
    name = paths.file_name(str(declared["name"]))
    media_type = clean_line(str(declared["mediaType"]))
    file = await asyncio.to_thread(own.file, declared["path"])
    # The hash of an artifact may come from the tool, as its bytes do.
    blob = await blobs.ingest(file, sha256=_hash(declared.get("sha256")))
    return PublishedArtifact(blob, name, media_type)


def _hash(declared: Any) -> str | None:
    if declared is None:
        return None
    if not _SHA256.fullmatch(str(declared)):
        raise TaskFailed("The tool declared a sha256 that is no SHA-256 in hex.", code="bad-output")
    return str(declared)


async def _edits(
    declared: Sequence[Mapping[str, Any]], may_write: Sequence[str], own: _OwnFiles
) -> list[Edit[Path]]:
    if not declared:
        return []
    return await asyncio.to_thread(lambda: [_edit(edit, may_write, own) for edit in declared])


def _edit(declared: Mapping[str, Any], may_write: Sequence[str], own: _OwnFiles) -> Edit[Path]:
    at = paths.entry_path(str(declared.get("put") or declared.get("folder") or declared["remove"]))
    raise_if_unplanned(at, may_write)
    if "put" in declared:
        existing = _existing(declared.get("existing"))
        return PutEntry(own.file(declared["path"]), at, existing, _mtime(declared.get("mtime")))
    return PutFolder(at, _mtime(declared.get("mtime"))) if "folder" in declared else RemoveEntry(at)


def _mtime(declared: Any) -> int | None:
    if declared is not None and (type(declared) is not int or plausible_mtime(declared) is None):
        raise TaskFailed("The tool declared an entry with an impossible `mtime`.", code="bad-output")
    return declared


def _existing(declared: Any) -> Existing:
    try:
        return Existing(declared)
    except ValueError:
        raise TaskFailed(
            "The tool declared an entry with an unknown `existing` policy.", code="bad-output"
        ) from None


class _OwnFiles:
    """Checks that declared files are the run's own; each folder is resolved once."""

    def __init__(self, workdir: Path) -> None:
        self._root = workdir.resolve()
        self._inside: dict[Path, bool] = {}

    def file(self, declared: Any) -> Path:
        """The declared file, if it is a regular one in the work folder."""
        path = Path(str(declared))
        if not (self._is_inside(path.parent) and _is_regular(path)):
            raise TaskFailed(
                "The tool declared an output that is not a regular file in its work folder.",
                code="bad-output",
            )
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

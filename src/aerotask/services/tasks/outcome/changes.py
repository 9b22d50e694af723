"""Change set of a succeeded run: its stored form, and how it is applied to the dataset in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.blobs.blob_store import Blob
from aerotask.db import locks
from aerotask.derivatives.kinds import lacks_overviews
from aerotask.derivatives.sources import source_key
from aerotask.domain import paths
from aerotask.domain.errors import Conflict, TaskFailed
from aerotask.domain.ids import DatasetId
from aerotask.metadata.file_types import type_by_name
from aerotask.metadata.model import is_given_up
from aerotask.sdk.changes import (
    Edit,
    Existing,
    PublishedArtifact,
    PutDerivative,
    PutEntry,
    PutFolder,
    RemoveEntry,
)
from aerotask.services.datasets.contents import put_contents, remove_content
from aerotask.services.datasets.tree_lock import lock_tree
from aerotask.services.tasks.outcome.descriptions import read_descriptions
from aerotask.store.datasets import derivatives, indexing
from aerotask.store.datasets.derivatives import NewDerivative
from aerotask.store.datasets.entries import EntryContent, contents_among, file_hashes_among
from aerotask.store.queue.claims import ClaimedTask

MANY = 5000
"""From so many edits on, or with any removal, a transaction may exceed the usual timeouts."""


@dataclass(frozen=True, slots=True)
class StoredChanges:
    """A run's checked declarations, their content stored in blobs that no row references yet."""

    artifacts: tuple[PublishedArtifact[Blob], ...] = ()
    edits: tuple[Edit[Blob], ...] = ()
    result: Mapping[str, Any] | None = None
    descriptions: Path | None = None
    """A file of the run's work folder, to be read with `read_descriptions`."""
    derivatives: tuple[PutDerivative[Blob], ...] = ()

    @property
    def blob_keys(self) -> list[str]:
        """The blobs that no row references until the changes are applied."""
        puts = [edit.content.key for edit in self.edits if isinstance(edit, PutEntry)]
        built = [derivative.content.key for derivative in self.derivatives]
        return puts + built + [artifact.content.key for artifact in self.artifacts]


@dataclass(frozen=True, slots=True)
class AppliedChanges:
    """The puts that took effect, and the paths of removals that were skipped because their content had changed."""

    puts: list[PutEntry[Blob]]
    replaced: dict[str, str]
    """The hash of the former content, by path, where a put replaced a file."""
    skipped_removals: list[str]


async def apply_changes(
    connection: AsyncConnection, task: ClaimedTask, changes: StoredChanges
) -> AppliedChanges:
    """Apply edits, descriptions and derivatives to the task's dataset. It may take minutes.

    Raises:
        Conflict: an entry can't be put at its path.
        TaskFailed: a derivative's source is no input of the task (`bad-output`).
    """
    if len(changes.edits) > MANY or any(isinstance(edit, RemoveEntry) for edit in changes.edits):
        await locks.disable_transaction_timeout(connection)
    edits, replaced = await _without_kept_files(connection, task.dataset_id, changes.edits)
    edits, skipped = await _without_stale_removals(connection, task, edits)
    for step in _steps(edits):
        await _apply(connection, task.dataset_id, step)
    if changes.descriptions is not None:
        await _apply_descriptions(connection, task, changes.descriptions)
    await _put_derivatives(connection, task, changes.derivatives)
    return AppliedChanges([edit for edit in edits if isinstance(edit, PutEntry)], replaced, skipped)


async def _apply(connection: AsyncConnection, dataset_id: DatasetId, step: _Puts | RemoveEntry) -> None:
    if isinstance(step, RemoveEntry):
        await remove_content(connection, dataset_id, step.at)
    elif step.contents or step.folders:
        await put_contents(connection, dataset_id, step.contents, folders=step.folders)


async def _apply_descriptions(connection: AsyncConnection, task: ClaimedTask, file: Path) -> None:
    await locks.disable_transaction_timeout(connection)  # a dataset may have 100,000 of them
    blob_keys = {item.path: item.blob_key for item in task.inputs}
    hashes = {item.path: item.sha256 for item in task.inputs}
    batches = read_descriptions(file, may_write=task.writes, inputs=hashes)
    while batch := await asyncio.to_thread(next, batches, None):
        found = [
            {
                **row,
                "blob_key": blob_keys[row["path"]],
                "given_up": is_given_up(row["properties"]),
                "lacks_overviews": lacks_overviews(row["type"], row["properties"]),
            }
            for row in batch
        ]
        await indexing.update_metadata(connection, task.dataset_id, found)


@dataclass(slots=True)
class _Puts:
    """Consecutive puts, applied together."""

    contents: dict[str, EntryContent] = field(default_factory=dict)
    folders: dict[str, int | None] = field(default_factory=dict)
    """Their paths, with the times of their last change in Unix seconds."""


def _steps(edits: Iterable[Edit[Blob]]) -> Iterator[_Puts | RemoveEntry]:
    """The edits in their order, all puts between two removals as one step."""
    puts = _Puts()
    for edit in edits:
        if isinstance(edit, RemoveEntry):
            yield puts
            yield edit
            puts = _Puts()
        elif isinstance(edit, PutFolder):
            puts.folders[edit.at] = edit.mtime
        else:
            blob = edit.content
            puts.contents[edit.at] = EntryContent(
                blob.key, blob.sha256, blob.size_bytes, type_by_name(edit.at), edit.mtime
            )
    yield puts


async def _without_kept_files(
    connection: AsyncConnection, dataset_id: DatasetId, edits: Sequence[Edit[Blob]]
) -> tuple[list[Edit[Blob]], dict[str, str]]:
    """The edits without puts that keep an existing file, and the hashes of the files that the others replace.

    Maintenance removes the blobs of the former.

    Raises:
        Conflict: a file exists that may not be replaced (`output-exists`).
    """
    if not edits:
        return [], {}
    # Lock the tree even if every put replaces: all runs lock the tree before entries and the task's row.
    await lock_tree(connection, dataset_id)
    puts = [edit for edit in edits if isinstance(edit, PutEntry)]
    existing = await file_hashes_among(connection, dataset_id, [edit.at for edit in puts])
    refused = next((edit for edit in puts if edit.existing is Existing.REFUSE and edit.at in existing), None)
    if refused is not None:
        raise Conflict(
            f"{paths.shown(refused.at)} already exists, and the task may not replace it.",
            code="output-exists",
        )
    retained = [
        edit
        for edit in edits
        if not (isinstance(edit, PutEntry) and edit.existing is Existing.KEEP and edit.at in existing)
    ]
    replacing = {edit.at for edit in retained if isinstance(edit, PutEntry)}
    return retained, {path: sha256 for path, sha256 in existing.items() if path in replacing}


async def _without_stale_removals(
    connection: AsyncConnection, task: ClaimedTask, edits: Sequence[Edit[Blob]]
) -> tuple[list[Edit[Blob]], list[str]]:
    """The edits without removals of inputs whose content has changed, and the paths of those.

    A run that removes its input means the content that it read, not what others, or the run itself, have put
    at that path since.
    """
    inputs = {item.path: item.blob_key for item in task.inputs}
    removals = [edit.at for edit in edits if isinstance(edit, RemoveEntry) and edit.at in inputs]
    current = await contents_among(connection, task.dataset_id, removals)
    skipped: list[str] = []
    retained: list[Edit[Blob]] = []
    for edit in edits:
        if isinstance(edit, PutEntry):
            current[edit.at] = edit.content.key
        if (
            isinstance(edit, RemoveEntry)
            and edit.at in inputs
            and current.get(edit.at, "") != inputs[edit.at]
        ):
            skipped += [edit.at] if edit.at in current else []
        else:
            retained.append(edit)
    return retained, skipped


async def _put_derivatives(
    connection: AsyncConnection, task: ClaimedTask, built: Sequence[PutDerivative[Blob]]
) -> None:
    """Keep each derivative under the content that the task read, even if the entry has been replaced since.

    Raises:
        TaskFailed: its source is no input of the task (`bad-output`).
    """
    hashes = {item.path: item.sha256 for item in task.inputs}
    rows = []
    for derivative in built:
        if derivative.of not in hashes:
            raise TaskFailed(
                f"The tool declared a derivative of {paths.shown(derivative.of)}, which isn't one of its inputs.",
                code="bad-output",
            )
        row = NewDerivative(
            dataset_id=task.dataset_id,
            source_key=source_key(derivative.of, hashes),
            content_sha256=hashes[derivative.of],
            kind=derivative.kind,
            builder=derivative.builder,
            blob_key=derivative.content.key,
            size_bytes=derivative.content.size_bytes,
            sha256=derivative.content.sha256,
            properties=dict(derivative.properties),
        )
        rows.append(row)
    await derivatives.put(connection, rows)

"""Makes a run's changes take effect: all of them in the caller's transaction, fenced by the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.derivatives.sources import source_key
from aerotask.domain import paths
from aerotask.domain.errors import Conflict, TaskFailed
from aerotask.domain.ids import DatasetId
from aerotask.domain.settings import LogLimits
from aerotask.metadata.file_types import type_by_name
from aerotask.sdk.changes import Existing
from aerotask.services.datasets.entries import put_contents, remove_content
from aerotask.services.datasets.tree_lock import lock_tree
from aerotask.store.datasets import derivatives, indexing
from aerotask.store.datasets.derivatives import NewDerivative
from aerotask.store.datasets.entries import EntryContent, contents_among, files_among
from aerotask.store.queue import leases
from aerotask.store.queue.claims import ClaimedTask
from aerotask.store.queue.leases import NewArtifact, Report, Success
from aerotask.worker.descriptions import read_descriptions
from aerotask.worker.outputs import (
    StoredArtifact,
    StoredChanges,
    StoredDerivative,
    StoredEdit,
    StoredFolder,
    StoredPut,
    StoredRemoval,
)

MANY = 5000
"""So many edits may take longer than a transaction usually may; and one removal may be of a great many entries."""


async def apply_success(  # noqa: PLR0913  one outcome, in parts
    connection: AsyncConnection,
    task: ClaimedTask,
    news: Report,
    changes: StoredChanges,
    *,
    log_limits: LogLimits,
    actor: str,
    artifact_ttl: timedelta,
) -> None:
    """Change the dataset as the run declared and end the task as Succeeded.

    The changes may take minutes. The task's row is locked after them, since heartbeats and whoever cancels the
    task would wait for it: a lease that was lost meanwhile takes all the changes back.

    Raises:
        LeaseLost: the task is no longer ours.
        Conflict: an entry can't be put where the run wants it.
        TaskFailed: it gave a derivative of what it hasn't read.
    """
    if len(changes.edits) > MANY or any(isinstance(edit, StoredRemoval) for edit in changes.edits):
        await locks.disable_idle_timeout(connection)
    await leases.raise_if_lost(connection, task.lease)
    edits = await _that_take_effect(connection, task.dataset_id, changes.edits)
    edits, kept = await _without_removals_of_others(connection, task, edits)
    for step in _steps(edits):
        await _apply(connection, task.dataset_id, step)
    if changes.descriptions is not None:
        await _describe(connection, task, changes.descriptions)
    await _keep_derivatives(connection, task, changes.derivatives)
    success = Success(
        artifacts=[_made_artifact(made, artifact_ttl) for made in changes.artifacts],
        outputs=[
            {"path": edit.at, "hash": edit.blob.sha256} for edit in edits if isinstance(edit, StoredPut)
        ],
        result=changes.result,
    )
    last_report = replace(news, lines=(*news.lines, *map(_kept, kept)))
    await leases.finish(connection, task.lease, success, last_report, log_limits=log_limits, actor=actor)


async def _apply(connection: AsyncConnection, dataset_id: DatasetId, step: _Puts | StoredRemoval) -> None:
    if isinstance(step, StoredRemoval):
        await remove_content(connection, dataset_id, step.at)
    elif step.contents or step.folders:
        await put_contents(connection, dataset_id, step.contents, folders=step.folders)


async def _describe(connection: AsyncConnection, task: ClaimedTask, file: Path) -> None:
    await locks.disable_idle_timeout(connection)  # there may be a great many
    read = {item.path: item.blob_key for item in task.inputs}
    batches = read_descriptions(file, may_write=task.writes, inputs=read.keys())
    while batch := await asyncio.to_thread(next, batches, None):
        await indexing.redescribe(
            connection, task.dataset_id, [{**row, "blob_key": read[row["path"]]} for row in batch]
        )


@dataclass(slots=True)
class _Puts:
    """Edits in a row that can be made at once."""

    contents: dict[str, EntryContent] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


def _steps(edits: Iterable[StoredEdit]) -> Iterator[_Puts | StoredRemoval]:
    """The edits in their order, with all between two removals as one step."""
    puts = _Puts()
    for edit in edits:
        if isinstance(edit, StoredRemoval):
            yield puts
            yield edit
            puts = _Puts()
        elif isinstance(edit, StoredFolder):
            puts.folders.add(edit.at)
        else:
            blob = edit.blob
            puts.contents[edit.at] = EntryContent(
                blob.key, blob.sha256, blob.size_bytes, type_by_name(edit.at)
            )
    yield puts


async def _that_take_effect(
    connection: AsyncConnection, dataset_id: DatasetId, edits: Sequence[StoredEdit]
) -> list[StoredEdit]:
    """The edits without those that give way to files that are there by now; their blobs are left to the sweep.

    Raises:
        Conflict: a file is there that may not be replaced.
    """
    if not edits:
        return []
    # Also where nothing is cautious: the tree before any entry and the task's row, in one order for all runs.
    await lock_tree(connection, dataset_id)
    puts = [edit for edit in edits if isinstance(edit, StoredPut) and edit.existing is not Existing.REPLACE]
    if not puts:
        return list(edits)
    there = set(await files_among(connection, dataset_id, [edit.at for edit in puts]))
    refused = next((edit for edit in puts if edit.existing is Existing.REFUSE and edit.at in there), None)
    if refused is not None:
        raise Conflict(f"There is a file at {paths.shown(refused.at)} by now.", code="output-exists")
    return [
        edit
        for edit in edits
        if not (isinstance(edit, StoredPut) and edit.existing is Existing.KEEP and edit.at in there)
    ]


async def _without_removals_of_others(
    connection: AsyncConnection, task: ClaimedTask, edits: Sequence[StoredEdit]
) -> tuple[list[StoredEdit], list[str]]:
    """The edits without removals of inputs whose paths hold something else by now, and the paths of those.

    Whoever removes what it was given means that content, and nothing that came to its place since: neither from
    others nor from the run itself.
    """
    read = {item.path: item.blob_key for item in task.inputs}
    removals = [edit.at for edit in edits if isinstance(edit, StoredRemoval) and edit.at in read]
    there = await contents_among(connection, task.dataset_id, removals)
    kept: list[str] = []
    left: list[StoredEdit] = []
    for edit in edits:
        if isinstance(edit, StoredPut):
            there[edit.at] = edit.blob.key
        if isinstance(edit, StoredRemoval) and edit.at in read and there.get(edit.at, "") != read[edit.at]:
            kept += [edit.at] if edit.at in there else []
        else:
            left.append(edit)
    return left, kept


def _kept(path: str) -> str:
    return f"Warning: {paths.shown(path)} stays, since it holds something else by now than what was read."


async def _keep_derivatives(
    connection: AsyncConnection, task: ClaimedTask, made: Sequence[StoredDerivative]
) -> None:
    """Keep each under the contents that the task was given, whatever the entry holds by now.

    Raises:
        TaskFailed: the task was given no such entry (`bad-output`).
    """
    hashes = {item.path: item.sha256 for item in task.inputs}
    rows = []
    for derivative in made:
        if derivative.of not in hashes:
            raise TaskFailed(
                f"The tool gave a derivative of {paths.shown(derivative.of)}, which it hasn't read.",
                code="bad-output",
            )
        row = NewDerivative(
            dataset_id=task.dataset_id,
            source_key=source_key(derivative.of, hashes),
            content_sha256=hashes[derivative.of],
            kind=derivative.kind,
            builder=derivative.builder,
            blob_key=derivative.blob.key,
            size_bytes=derivative.blob.size_bytes,
            sha256=derivative.blob.sha256,
            properties=dict(derivative.properties),
        )
        rows.append(row)
    await derivatives.put(connection, rows)


def _made_artifact(made: StoredArtifact, ttl: timedelta) -> NewArtifact:
    return NewArtifact(
        file_name=made.name,
        media_type=made.media_type,
        blob_key=made.blob.key,
        size_bytes=made.blob.size_bytes,
        sha256=made.blob.sha256,
        ttl_s=ttl.total_seconds(),
    )

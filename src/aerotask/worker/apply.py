"""Makes a run's changes take effect: all of them in the caller's transaction, fenced by the lease."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain.ids import DatasetId
from aerotask.media.types import type_by_name
from aerotask.services.entries import existing_files, put_contents, remove_content
from aerotask.store import leases, locks
from aerotask.store.claims import ClaimedTask
from aerotask.store.entries import Content
from aerotask.store.leases import MadeArtifact, Report
from aerotask.store.logs import LogLimits
from aerotask.worker.outputs import (
    NewFolder,
    Removal,
    StoredArtifact,
    StoredChanges,
    StoredEdit,
    StoredPut,
)

MANY = 5000
"""So many edits may take longer than a transaction usually may."""


async def apply_success(  # noqa: PLR0913  one outcome, in parts
    connection: AsyncConnection,
    task: ClaimedTask,
    news: Report,
    changes: StoredChanges,
    *,
    keep: LogLimits,
    by: str,
    artifact_ttl: timedelta,
) -> None:
    """End the task as Succeeded and change the dataset as the run declared.

    Raises:
        LeaseLost: the task is no longer ours.
        Conflict: an entry can't be put where the run wants it.
    """
    if len(changes.edits) > MANY:
        await locks.take_your_time(connection)
    edits = await _without_kept(connection, task.dataset_id, changes.edits)
    await leases.succeed(
        connection,
        task.lease,
        news,
        keep=keep,
        by=by,
        artifacts=[_made_artifact(made, artifact_ttl) for made in changes.artifacts],
        outputs=[
            {"path": edit.at, "hash": edit.blob.sha256} for edit in edits if isinstance(edit, StoredPut)
        ],
        result=changes.result,
    )
    for step in _steps(edits):
        if isinstance(step, Removal):
            await remove_content(connection, task.dataset_id, step.at)
        else:
            await put_contents(connection, task.dataset_id, step.contents, folders=step.folders)


@dataclass(slots=True)
class _Puts:
    """Edits in a row that can be made at once."""

    contents: dict[str, Content] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


def _steps(edits: Iterable[StoredEdit]) -> Iterator[_Puts | Removal]:
    """The edits in their order, with all between two removals as one step."""
    puts = _Puts()
    for edit in edits:
        if isinstance(edit, Removal):
            yield puts
            yield edit
            puts = _Puts()
        elif isinstance(edit, NewFolder):
            puts.folders.add(edit.at)
        else:
            blob = edit.blob
            puts.contents[edit.at] = Content(blob.key, blob.sha256, blob.size_bytes, type_by_name(edit.at))
    yield puts


async def _without_kept(
    connection: AsyncConnection, dataset_id: DatasetId, edits: Sequence[StoredEdit]
) -> list[StoredEdit]:
    """The edits without those that give way to files that are there by now; their blobs are left to the sweep."""
    cautious = [edit.at for edit in edits if isinstance(edit, StoredPut) and edit.keep_existing]
    if not cautious:
        return list(edits)
    there = await existing_files(connection, dataset_id, cautious)
    return [
        edit
        for edit in edits
        if not (isinstance(edit, StoredPut) and edit.keep_existing and edit.at in there)
    ]


def _made_artifact(made: StoredArtifact, ttl: timedelta) -> MadeArtifact:
    return MadeArtifact(
        file_name=made.name,
        media_type=made.media_type,
        blob_key=made.blob.key,
        size_bytes=made.blob.size_bytes,
        sha256=made.blob.sha256,
        ttl_s=ttl.total_seconds(),
    )

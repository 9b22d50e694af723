"""Makes a run's changes take effect: all of them in the caller's transaction, fenced by the lease."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.derivatives.sources import source_key
from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed
from aerotask.media.types import type_by_name
from aerotask.services.entries import put_content, remove_content
from aerotask.store import derivatives, leases
from aerotask.store.claims import ClaimedTask
from aerotask.store.derivatives import NewDerivative
from aerotask.store.entries import Content
from aerotask.store.leases import MadeArtifact, Report
from aerotask.store.logs import LogLimits
from aerotask.worker.outputs import Removal, StoredArtifact, StoredChanges, StoredDerivative, StoredPut


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
        TaskFailed: it gave a derivative of what it hasn't read.
    """
    await leases.succeed(
        connection,
        task.lease,
        news,
        keep=keep,
        by=by,
        artifacts=[_made_artifact(made, artifact_ttl) for made in changes.artifacts],
        outputs=[
            {"path": edit.at, "hash": edit.blob.sha256}
            for edit in changes.edits
            if isinstance(edit, StoredPut)
        ],
        result=changes.result,
    )
    for edit in changes.edits:
        if isinstance(edit, Removal):
            await remove_content(connection, task.dataset_id, edit.at)
        else:
            content = Content(edit.blob.key, edit.blob.sha256, edit.blob.size_bytes, type_by_name(edit.at))
            await put_content(connection, task.dataset_id, edit.at, content)
    await _keep_derivatives(connection, task, changes.derivatives)


async def _keep_derivatives(
    connection: AsyncConnection, task: ClaimedTask, made: Sequence[StoredDerivative]
) -> None:
    """Keep each under the contents that the task was given, whatever the entry holds by now.

    Raises:
        TaskFailed: the task was given no such entry (`bad-output`).
    """
    hashes = {item.path: item.sha256 for item in task.inputs}
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
        await derivatives.put(connection, row)


def _made_artifact(made: StoredArtifact, ttl: timedelta) -> MadeArtifact:
    return MadeArtifact(
        file_name=made.name,
        media_type=made.media_type,
        blob_key=made.blob.key,
        size_bytes=made.blob.size_bytes,
        sha256=made.blob.sha256,
        ttl_s=ttl.total_seconds(),
    )

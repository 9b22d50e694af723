"""Makes a run's changes take effect: all of them in the caller's transaction, fenced by the lease."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.media.types import type_by_name
from aerotask.services.entries import put_content, remove_content
from aerotask.store import leases
from aerotask.store.claims import ClaimedTask
from aerotask.store.entries import Content
from aerotask.store.leases import MadeArtifact, Report
from aerotask.store.logs import LogLimits
from aerotask.worker.outputs import Removal, StoredArtifact, StoredChanges, StoredPut


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


def _made_artifact(made: StoredArtifact, ttl: timedelta) -> MadeArtifact:
    return MadeArtifact(
        file_name=made.name,
        media_type=made.media_type,
        blob_key=made.blob.key,
        size_bytes=made.blob.size_bytes,
        sha256=made.blob.sha256,
        ttl_s=ttl.total_seconds(),
    )

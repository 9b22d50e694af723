"""Snapshot of a dataset's entries, and the existing derivatives of a run's inputs, read when the attempt begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.engine import Database
from aerotask.derivatives.sources import source_key
from aerotask.domain.errors import NotFound
from aerotask.domain.ids import DatasetId
from aerotask.metadata.file_types import type_by_name
from aerotask.sdk.dataset import EntryView
from aerotask.sdk.snapshot import Snapshot, write_snapshot
from aerotask.services.datasets.entry_view import entry_view
from aerotask.store.datasets import datasets, derivatives, entries
from aerotask.store.datasets.entries import WHOLE_ENTRY, EntryRow
from aerotask.store.queue.claims import ClaimedTask, TaskInputRow


async def take_snapshot(
    db: Database,
    dataset_id: DatasetId,
    *,
    below: Sequence[str],
    inputs: Mapping[str, TaskInputRow],
    file: Path,
) -> Snapshot:
    """Write the entries at and below the paths to `file`, with the run's inputs as it will read them.

    Raises:
        NotFound: the dataset has been removed.
    """
    async with db.begin() as connection:
        await locks.disable_transaction_timeout(connection)
        dataset = await datasets.get(connection, dataset_id, seen_by=None)
        if dataset is None:
            raise NotFound("The dataset has been removed meanwhile.")
        rows = entries.stream_within(connection, dataset_id, below, WHOLE_ENTRY)
        await write_snapshot(file, _as_read(rows, inputs))
    return Snapshot(dataset.slug, file)


async def _as_read(
    rows: AsyncIterator[EntryRow], inputs: Mapping[str, TaskInputRow]
) -> AsyncIterator[EntryView]:
    """The entries; an input that has been replaced or removed since is described as the run will read it."""
    remaining = dict(inputs)
    async for row in rows:
        task_input = remaining.pop(row.path, None)
        yield (
            entry_view(row)
            if task_input is None or task_input.sha256 == row.sha256
            else _unindexed(task_input)
        )
    for task_input in remaining.values():
        yield _unindexed(task_input)


async def derivatives_of_inputs(
    connection: AsyncConnection, task: ClaimedTask, *, since_submit: bool
) -> tuple[tuple[str, str, str], ...]:
    """Path of an input, kind and builder of each existing derivative of the content that the task reads.

    With `since_submit`, only of those that were made since the task was submitted.
    """
    hashes = {item.path: item.sha256 for item in task.inputs}
    since = task.lease.task_id if since_submit else None
    built = await derivatives.list_by_source(
        connection, task.dataset_id, hashes.values(), since_submit_of=since
    )
    keys = {path: source_key(path, hashes) for path in hashes}
    return tuple((path, kind, builder) for path, key in keys.items() for kind, builder in built.get(key, ()))


def _unindexed(task_input: TaskInputRow) -> EntryView:
    return EntryView(task_input.path, type_by_name(task_input.path), task_input.sha256, 0, indexed=False)

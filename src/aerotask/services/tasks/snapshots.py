"""What a run may know of its dataset, written to a file when an attempt begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from aerotask.db import locks
from aerotask.db.engine import Database
from aerotask.domain.errors import NotFound
from aerotask.domain.ids import DatasetId
from aerotask.metadata.file_types import type_by_name
from aerotask.sdk.dataset import EntryView
from aerotask.sdk.snapshot import Snapshot, write_snapshot
from aerotask.services.datasets.entry_view import entry_view
from aerotask.store.datasets import datasets, entries
from aerotask.store.datasets.entries import WHOLE_ENTRY, EntryRow
from aerotask.store.queue.claims import TaskInputRow


async def take_snapshot(
    db: Database,
    dataset_id: DatasetId,
    *,
    named: Sequence[str],
    inputs: Mapping[str, TaskInputRow],
    file: Path,
) -> Snapshot:
    """Write the entries at and below the named paths to `file`, with the run's inputs as it will read them.

    Raises:
        NotFound: the dataset is gone.
    """
    async with db.begin() as connection:
        await locks.disable_idle_timeout(connection)
        dataset = await datasets.get(connection, dataset_id, seen_by=None)
        if dataset is None:
            raise NotFound("The dataset has been removed meanwhile.")
        rows = entries.stream_within(connection, dataset_id, named, WHOLE_ENTRY)
        await write_snapshot(file, _as_read(rows, inputs))
    return Snapshot(dataset.slug, file)


async def _as_read(
    rows: AsyncIterator[EntryRow], inputs: Mapping[str, TaskInputRow]
) -> AsyncIterator[EntryView]:
    """The entries; of an input that has been replaced or removed since, what the run will find instead."""
    unseen = dict(inputs)
    async for row in rows:
        read = unseen.pop(row.path, None)
        yield entry_view(row) if read is None or read.sha256 == row.sha256 else _unknown(read)
    for read in unseen.values():
        yield _unknown(read)


def _unknown(read: TaskInputRow) -> EntryView:
    return EntryView(read.path, type_by_name(read.path), read.sha256, 0, indexed=False)

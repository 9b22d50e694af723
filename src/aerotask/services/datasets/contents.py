"""Contents of entries, put and removed within the caller's transaction, one or many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.domain import paths
from aerotask.domain.errors import Conflict
from aerotask.domain.ids import DatasetId
from aerotask.domain.preconditions import UNCONDITIONAL, Condition
from aerotask.metadata.file_types import owner_paths_of
from aerotask.services.datasets.tree_lock import lock_tree
from aerotask.store.datasets import entries, entry_writes, index_queue, indexing
from aerotask.store.datasets.entries import FOLDER, EntryContent, EntryRow

BATCH = 5000
"""Rows that one statement writes, so that it ends soon."""


async def put_content(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    path: str,
    content: EntryContent,
    *,
    condition: Condition = UNCONDITIONAL,
) -> EntryRow:
    """Makes `content` the entry at `path`, with its parent folders, within the caller's transaction.

    Raises:
        Conflict: there is a folder at the path, or a file where a folder above it would be.
        PreconditionFailed: the existing entry doesn't meet the condition.
    """
    await lock_tree(connection, dataset_id)
    existing = await existing_file(connection, dataset_id, path)
    condition.check(existing.sha256 if existing else None)
    await entry_writes.add_folders(connection, dataset_id, paths.parents(path))
    row = await entry_writes.put_file(connection, dataset_id, path, content)
    if owners := owner_paths_of(path):
        await indexing.index_again(connection, dataset_id, owners)
    await index_queue.notify_indexers(connection)
    return row


async def put_contents(
    connection: AsyncConnection,
    dataset_id: DatasetId,
    contents: Mapping[str, EntryContent],
    *,
    folders: Mapping[str, int | None] | None = None,
) -> None:
    """As `put_content`, for many paths at once, and with additional folders and the times of their last change.

    Raises:
        Conflict: there is a folder at one of the paths, or a file at or above one of the folders or paths, existing
            or among the contents.
    """
    await lock_tree(connection, dataset_id)
    mtimes = folders or {}
    needed = {*mtimes, *chain.from_iterable(map(paths.parents, (*contents, *mtimes)))}
    clashing = next((path for path in contents if path in needed), None)
    if clashing is not None:
        raise _entry_is_file(clashing)
    existing = await entries.folders_among(connection, dataset_id, list(contents))
    if existing:
        raise Conflict(f"There is a folder at {paths.shown(existing[0])}.", code="entry-is-folder")
    await raise_if_file_among(connection, dataset_id, sorted(needed))
    await entry_writes.add_folders(connection, dataset_id, sorted(needed), mtimes=mtimes)
    remaining, lane = iter(contents.items()), index_queue.lane_of(len(contents))
    while batch := dict(islice(remaining, BATCH)):
        await entry_writes.put_files(connection, dataset_id, batch, lane=lane)
    if owners := {*chain.from_iterable(map(owner_paths_of, contents))} - contents.keys():
        await indexing.index_again(connection, dataset_id, sorted(owners), lane=lane)
    if contents:
        await index_queue.notify_indexers(connection)


async def remove_content(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> list[str]:
    """Removes the entry at `path` and everything below it, within the caller's transaction; returns the removed paths."""
    await lock_tree(connection, dataset_id)
    removed = await entry_writes.remove_within(connection, dataset_id, path)
    if owners := {*chain.from_iterable(map(owner_paths_of, removed))} - {*removed}:
        await indexing.index_again(connection, dataset_id, sorted(owners))
        await index_queue.notify_indexers(connection)
    return removed


async def existing_file(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> EntryRow | None:
    """The file at the path, if any.

    Raises:
        Conflict: a folder is there, or a file is above it.
    """
    existing = await entries.find(connection, dataset_id, path)
    if existing is not None and existing.type == FOLDER:
        raise Conflict(f"There is a folder at {paths.shown(path)}.", code="entry-is-folder")
    await raise_if_file_among(connection, dataset_id, paths.parents(path))
    return existing


async def raise_if_file_among(
    connection: AsyncConnection, dataset_id: DatasetId, folders: Sequence[str]
) -> None:
    """Checks that folders can be at these paths.

    Raises:
        Conflict: there is a file at one of them.
    """
    files = await entries.files_among(connection, dataset_id, folders)
    if files:
        raise _entry_is_file(files[0])


def _entry_is_file(path: str) -> Conflict:
    return Conflict(f"{paths.shown(path)} is a file, so it can't contain entries.", code="entry-is-file")

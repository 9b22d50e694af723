"""Snapshot of a dataset for a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.engine import Database
from aerotask.domain.errors import NotFound
from aerotask.domain.ids import DatasetId, new_id
from aerotask.sdk.snapshot import Snapshot
from aerotask.services.datasets.contents import put_contents
from aerotask.services.tasks.snapshots import take_snapshot
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.queue.claims import TaskInputRow


@pytest.fixture
async def rows(database: Database) -> Rows:
    made = await add_dataset(database, await add_user(database, "owner"), "acme")
    async with made.db.begin() as connection:
        paths = ("a/kept.tif", "a/replaced.tif", "b/other.md")
        contents = {path: EntryContent(path, f"new {path}", 5, "image") for path in paths}
        await put_contents(connection, made.dataset_id, contents)
    return made


async def snapshot_of(rows: Rows, file: Path, *named: str, inputs: tuple[TaskInputRow, ...] = ()) -> Snapshot:
    return await take_snapshot(
        rows.db, rows.dataset_id, below=named, inputs={item.path: item for item in inputs}, file=file
    )


async def test_a_snapshot_holds_the_requested_entries_and_the_datasets_slug(
    rows: Rows, tmp_path: Path
) -> None:
    taken = await snapshot_of(rows, tmp_path / "snapshot", "a")
    assert taken.slug == "acme"
    assert [entry.path for entry in taken.entries()] == ["a", "a/kept.tif", "a/replaced.tif"]


async def test_only_the_content_is_known_of_a_replaced_or_removed_input(rows: Rows, tmp_path: Path) -> None:
    inputs = (
        TaskInputRow("a/kept.tif", "new a/kept.tif", "1"),
        TaskInputRow("a/replaced.tif", "old", "2"),
        TaskInputRow("a/gone.laz", "older", "3"),
    )
    taken = await snapshot_of(rows, tmp_path / "snapshot", "", inputs=inputs)
    assert [(entry.path, entry.type, entry.sha256, entry.size_bytes) for entry in taken.entries()] == [
        ("a", "directory", "", 0),
        ("a/kept.tif", "image", "new a/kept.tif", 5),
        ("a/replaced.tif", "image", "old", 0),
        ("b", "directory", "", 0),
        ("b/other.md", "image", "new b/other.md", 5),
        ("a/gone.laz", "pointCloud", "older", 0),
    ]


async def test_an_unfinished_snapshot_is_overwritten(rows: Rows, tmp_path: Path) -> None:
    for _ in range(2):
        taken = await snapshot_of(rows, tmp_path / "snapshot", "b")
    assert len(list(taken.entries())) == 2


async def test_a_removed_dataset_has_no_snapshot(rows: Rows, tmp_path: Path) -> None:
    elsewhere = Rows(rows.db, rows.org_id, DatasetId(new_id()), rows.user_id)
    with pytest.raises(NotFound):
        await snapshot_of(elsewhere, tmp_path / "snapshot", "")

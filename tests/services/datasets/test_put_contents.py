"""Putting many entries at once: all of them or none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.engine import Database
from aerotask.domain.errors import Conflict
from aerotask.domain.ids import TaskId, new_id
from aerotask.services.datasets.contents import put_content, put_contents
from aerotask.store.datasets import entries
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.queue import retention
from aerotask.store.queue.claims import TaskInputRow
from aerotask.store.tasks import submit

MANY = 40_000
"""More than the number of parameters that Postgres takes in one statement."""

TIMES = {"old.txt": 1_500_000_000, "new/a.txt": 1, "now.txt": None}


@pytest.fixture
async def rows(database: Database) -> Rows:
    return await add_dataset(database, await add_user(database, "owner"), "acme")


def content(name: str) -> EntryContent:
    return EntryContent(blob_key=name, sha256=f"sha of {name}", size_bytes=len(name), type="generic")


async def put(rows: Rows, *names: str, folders: tuple[str, ...] = ()) -> None:
    async with rows.db.begin() as connection:
        contents = {name: content(name) for name in names}
        await put_contents(connection, rows.dataset_id, contents, folders=dict.fromkeys(folders))


async def listed(rows: Rows) -> dict[str, str]:
    async with rows.db.read() as connection:
        found = await entries.find_within(connection, rows.dataset_id, [""])
    return {row.path: row.type for row in found}


async def test_files_are_put_with_their_parent_folders(rows: Rows) -> None:
    await put(rows, "a/b/c.txt", "d.txt", folders=("e/f",))
    assert await listed(rows) == {
        "a": "directory",
        "a/b": "directory",
        "a/b/c.txt": "generic",
        "d.txt": "generic",
        "e": "directory",
        "e/f": "directory",
    }


async def test_files_and_new_folders_have_the_times_that_are_given(rows: Rows) -> None:
    await put(rows, "old.txt", folders=("old",))
    at = {"new": 1_600_000_000, "old": 1_600_000_001}
    async with rows.db.begin() as connection:
        contents = {name: replace(content(name), mtime=mtime) for name, mtime in TIMES.items()}
        await put_contents(connection, rows.dataset_id, contents, folders=at)
        await put_content(
            connection, rows.dataset_id, "one.txt", replace(content("one"), mtime=1_400_000_000)
        )
    async with rows.db.read() as connection:
        found = await entries.find_within(connection, rows.dataset_id, [""])
    times = {row.path: int(row.modified_at.timestamp()) for row in found}
    given = {"new": 1_600_000_000, "one.txt": 1_400_000_000, "old.txt": 1_500_000_000, "new/a.txt": 1}
    assert {path: times[path] for path in given} == given
    assert min(times["old"], times["now.txt"]) > 1_700_000_000


async def test_an_existing_file_is_replaced_and_indexed_again(rows: Rows) -> None:
    async with rows.db.begin() as connection:
        before = await put_content(connection, rows.dataset_id, "a.txt", content("old"))
    await put(rows, "a.txt", "b.txt")
    async with rows.db.read() as connection:
        after = await entries.find(connection, rows.dataset_id, "a.txt")
    assert after is not None
    assert (after.id, after.sha256, after.indexed) == (before.id, "sha of a.txt", False)
    assert (after.depth, after.size_bytes, after.blob_key) == (0, 5, "a.txt")


@pytest.mark.parametrize(
    ("existing", "new", "folders", "code"),
    [
        ("a/b", ("x", "a"), (), "entry-is-folder"),
        ("a", ("x", "a/b"), (), "entry-is-file"),
        ("a", ("x",), ("a/b",), "entry-is-file"),
        ("a", ("x",), ("a",), "entry-is-file"),
        ("z", ("a", "a/b"), (), "entry-is-file"),
        ("z", ("a",), ("a",), "entry-is-file"),
    ],
)
async def test_a_conflict_changes_nothing(
    rows: Rows, existing: str, new: tuple[str, ...], folders: tuple[str, ...], code: str
) -> None:
    await put(rows, existing)
    before = await listed(rows)
    with pytest.raises(Conflict) as caught:
        await put(rows, *new, folders=folders)
    assert caught.value.code == code
    assert await listed(rows) == before


async def test_a_large_number_of_entries_is_put_referenced_and_measured(rows: Rows) -> None:
    names = [f"{number // 1000}/{number}" for number in range(MANY)]
    await put(rows, *names, folders=tuple(f"empty/{number}" for number in range(9000)))
    async with rows.db.read() as connection:
        totals = await entries.measure(connection, rows.dataset_id, [""])
        assert await retention.referenced_among(connection, [*names, "unknown"]) == set(names)
    assert totals.count == MANY + 40 + 9001
    async with rows.db.begin() as connection:
        assert set(await entries.files_among(connection, rows.dataset_id, [*names, "unknown"])) == set(names)
        inputs = tuple(TaskInputRow(name, "sha", name) for name in names)
        task = rows.new_task(id=TaskId(new_id()), inputs=inputs)
        assert await submit.add(connection, task, actor="tests") == set()
    claimed = await rows.claimed()
    assert len(claimed.inputs) == MANY


async def test_entries_are_streamed_once_in_path_order(rows: Rows) -> None:
    await put(rows, "b/1", "a/2", "ab", "c")
    async with rows.db.begin() as connection:
        stream = entries.stream_within(
            connection, rows.dataset_id, ["b", "a", "a/2", "c"], entries.WHOLE_ENTRY
        )
        assert [row.path async for row in stream] == ["a", "a/2", "b", "b/1", "c"]

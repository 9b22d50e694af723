"""Moving, copying and removing a folder with more entries than one statement changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from tests.support.rows import Rows
from tests.support.statements import rows_changed

from aerotask.db.models import Entry
from aerotask.store.datasets import entry_writes, tree
from aerotask.store.datasets.entry_writes import RANGE_ROWS

# A folder of `files` files in subfolders of a hundred, beside folders whose names start the same.
FILL = """
    INSERT INTO entries (id, dataset_id, path, parent, depth, type, blob_key)
        SELECT gen_random_uuid(), :dataset, 'a/' || n / 100 || '/' || n, 'a/' || n / 100, 2, 'generic', n::text
        FROM generate_series(0, :files - 1) n;
"""
FOLDERS = """
    INSERT INTO entries (id, dataset_id, path, parent, depth, type)
        SELECT gen_random_uuid(), :dataset, path, parent, depth, 'directory'
        FROM (SELECT 'a/' || n AS path, 'a' AS parent, 1 AS depth FROM generate_series(0, (:files - 1) / 100) n
              UNION ALL SELECT unnest(ARRAY['a', 'a-', 'a0', 'ab']), '', 0) made;
"""


async def fill(rows: Rows, files: int) -> int:
    """Inserts files in subfolders of a hundred; returns the number of entries below `a`."""
    async with rows.db.begin() as c:
        for statement in (FILL, FOLDERS):
            await c.execute(text(statement), {"dataset": rows.dataset_id, "files": files})
    return files + -(-files // 100)


async def count(rows: Rows, prefix: str) -> int:
    async with rows.db.read() as c:
        query = select(func.count()).where(Entry.path.startswith(prefix, autoescape=True))
        return (await c.execute(query)).scalar_one()


@pytest.mark.parametrize(
    "files", [1, RANGE_ROWS - 52, RANGE_ROWS, 2 * RANGE_ROWS + 1], ids=lambda n: f"{n} files"
)
@pytest.mark.parametrize("change", [tree.move, tree.copy])
async def test_every_entry_is_moved_or_copied_once(
    rows: Rows, change: Callable[..., Any], files: int
) -> None:
    entries_below = await fill(rows, files)
    async with rows.db.begin() as c:
        assert await change(c, rows.dataset_id, "a", "x/y", new_type=None) == entries_below + 1
    assert await count(rows, "x/y/") == entries_below
    assert await count(rows, "a/") == (0 if change is tree.move else entries_below)
    assert await count(rows, "a") == 3 + (0 if change is tree.move else entries_below + 1)
    if files > 1:
        async with rows.db.read() as c:
            query = select(Entry.parent, Entry.depth, Entry.blob_key).where(Entry.path == "x/y/12/1234")
            assert tuple((await c.execute(query)).one()) == ("x/y/12", 3, "1234")


async def test_a_folder_is_removed_in_several_statements_of_one_transaction(rows: Rows) -> None:
    entries_below = await fill(rows, 2 * RANGE_ROWS)
    with rows_changed(rows.db, "DELETE") as removed:
        async with rows.db.begin() as c:
            paths = await entry_writes.remove_within(c, rows.dataset_id, "a")
            assert (
                await count(rows, "a/") == entries_below
            )  # still visible to other connections before the commit
    assert (len(paths), sum(removed), max(removed)) == (entries_below + 1, entries_below + 1, RANGE_ROWS)
    assert (await count(rows, "a/"), await count(rows, "a")) == (0, 3)

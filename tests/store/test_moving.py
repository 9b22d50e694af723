"""Renaming and copying a folder of more entries than one statement takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text
from tests.store.conftest import Rows

from aerotask.store import moving
from aerotask.store.models import Entry

# A folder of `files` files in folders of a hundred, between neighbours whose names begin alike.
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


async def count(rows: Rows, prefix: str) -> int:
    async with rows.db.read() as c:
        query = select(func.count()).where(Entry.path.startswith(prefix, autoescape=True))
        return (await c.execute(query)).scalar_one()


@pytest.mark.parametrize(
    "files", [1, moving.PIECE - 52, moving.PIECE, 2 * moving.PIECE + 1], ids=lambda n: f"{n} files"
)
@pytest.mark.parametrize("change", [moving.move, moving.copy])
async def test_every_entry_is_taken_along_once(rows: Rows, change: Callable[..., Any], files: int) -> None:
    there = files + -(-files // 100)
    async with rows.db.begin() as c:
        for statement in (FILL, FOLDERS):
            await c.execute(text(statement), {"dataset": rows.dataset_id, "files": files})
    async with rows.db.begin() as c:
        assert await change(c, rows.dataset_id, "a", "x/y", new_type=None) == there + 1
    assert await count(rows, "x/y/") == there
    assert await count(rows, "a/") == (0 if change is moving.move else there)
    assert await count(rows, "a") == 3 + (0 if change is moving.move else there + 1)
    if files > 1:
        async with rows.db.read() as c:
            query = select(Entry.parent, Entry.depth, Entry.blob_key).where(Entry.path == "x/y/12/1234")
            assert tuple((await c.execute(query)).one()) == ("x/y/12", 3, "1234")

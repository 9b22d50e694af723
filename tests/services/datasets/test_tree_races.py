"""Concurrent puts, renames, copies and removals leave a consistent tree of complete files."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from tests.support.callers import permit
from tests.support.rows import add_dataset, add_user

from aerotask.domain import paths
from aerotask.domain.access import Caller
from aerotask.domain.errors import Conflict, InvalidInput, NotFound
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets import entries
from aerotask.wiring import Platform

TASKS, STEPS = 8, 5
PATHS = ("a", "b", "a/b", "b/a", "a/b/a", "a/b/b", "b/a/b", "c/a/b")
ORPHANS = text("""
    SELECT e.path FROM entries e
    LEFT JOIN entries p ON p.dataset_id = e.dataset_id AND p.path = e.parent
    WHERE e.parent <> '' AND p.type IS DISTINCT FROM 'directory'
""")


async def body(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def step(platform: Platform, dataset_id: DatasetId, caller: Caller, rng: random.Random) -> str:
    """Makes a random change to the tree and returns its outcome."""
    kind = rng.choice(["put", "put", "folder", "rename", "rename", "copy", "remove"])
    one, other = rng.sample(PATHS, 2)
    trees, files = platform.tree, platform.entries
    try:
        if kind == "put":
            await files.put(permit(platform.access, caller, dataset_id), one, body(rng.randbytes(20)))
        elif kind == "folder":
            await files.make_folder(permit(platform.access, caller, dataset_id), one)
        elif kind == "remove":
            await files.remove(caller, "acme", "acme", one)
        else:
            change = trees.rename if kind == "rename" else trees.copy
            await change(caller, "acme", "acme", source=one, dest=other)
    except (Conflict, NotFound, InvalidInput):
        return "refused"
    return "done"


@pytest.mark.parametrize("seed", range(3))
async def test_every_parent_is_a_folder_and_every_file_is_complete(platform: Platform, seed: int) -> None:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    caller = Caller(rows.user_id, "owner")

    async def changes(number: int) -> Counter[str]:
        rng = random.Random(f"{seed}-{number}")
        return Counter([await step(platform, rows.dataset_id, caller, rng) for _ in range(STEPS)])

    outcomes = sum(await asyncio.gather(*map(changes, range(TASKS))), Counter[str]())
    assert outcomes.total() == TASKS * STEPS
    assert outcomes["done"] > 0

    async with platform.db.read() as connection:
        assert list((await connection.execute(ORPHANS)).scalars()) == []
        remaining = await entries.find_within(connection, rows.dataset_id, [""])
    for row in remaining:
        assert (row.depth, row.path) == (paths.depth(row.path), paths.entry_path(row.path))
        if row.blob_key is not None:
            content = await platform.blobs.open(row.blob_key, size_bytes=row.size_bytes)
            whole = b"".join([piece async for piece in content.chunks(0, content.size_bytes)])
            await content.close()
            assert hashlib.sha256(whole).hexdigest() == row.sha256

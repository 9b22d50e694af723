"""Usage totals kept by triggers: equal to the entries after any change."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select
from tests.support.rows import Rows, add_dataset

from aerotask.db.engine import Database
from aerotask.db.models import Dataset, DatasetUsage, Entry
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets import deletion, entry_writes, index_queue, indexing, tree
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.datasets.index_queue import IndexLane
from aerotask.store.datasets.indexing import Metadata
from aerotask.store.tasks import usage


def content(size_bytes: int) -> EntryContent:
    return EntryContent("key", "00ff", size_bytes, "generic")


async def sums(db: Database, dataset_id: DatasetId) -> tuple[int, int]:
    """The totals of the triggers, asserted to equal the entries."""
    async with db.read() as connection:
        counted = await connection.execute(
            select(func.count(), func.coalesce(func.sum(Entry.size_bytes), 0)).where(
                Entry.dataset_id == dataset_id
            )
        )
        kept = await connection.execute(
            select(DatasetUsage.entries, DatasetUsage.size_bytes).where(DatasetUsage.dataset_id == dataset_id)
        )
        there, said = counted.one(), kept.one_or_none()
    assert tuple(said or (0, 0)) == tuple(there)
    return int(there[0]), int(there[1])


async def test_puts_replacements_folders_copies_and_removals_are_counted(rows: Rows) -> None:
    here = rows.dataset_id
    async with rows.db.begin() as c:
        await entry_writes.add_folders(c, here, ["a"])
        await entry_writes.put_file(c, here, "a/x", content(100))
        await entry_writes.put_file(c, here, "b", content(5))
    assert await sums(rows.db, here) == (3, 105)
    async with rows.db.begin() as c:
        await entry_writes.put_file(c, here, "b", content(7))
        await entry_writes.add_folders(c, here, ["a"])
        await tree.copy(c, here, "a", "c", new_type=None)
    assert await sums(rows.db, here) == (5, 207)
    async with rows.db.begin() as c:
        await tree.move(c, here, "c", "d", new_type=None)
        claimed = await index_queue.claim(c, IndexLane.SINGLE, max_count=10, lease_s=60)
        await indexing.finish_all(c, [(claimed[0], Metadata("image", {"width": 1}))])
    assert await sums(rows.db, here) == (5, 207)
    async with rows.db.begin() as c:
        await entry_writes.remove_within(c, here, "a")
    assert await sums(rows.db, here) == (3, 107)
    async with rows.db.begin() as c:
        assert await deletion.remove_some_entries(c, here, max_count=2) == 2
    assert (await sums(rows.db, here))[0] == 1


async def test_what_is_rolled_back_does_not_count(rows: Rows) -> None:
    async with rows.db.engine.connect() as c:
        await entry_writes.put_file(c, rows.dataset_id, "a", content(100))
        await c.rollback()
    assert await sums(rows.db, rows.dataset_id) == (0, 0)


async def test_concurrent_writers_are_all_counted(rows: Rows) -> None:
    async def put(number: int) -> None:
        async with rows.db.begin() as c:
            await entry_writes.put_file(c, rows.dataset_id, str(number % 5), content(number))

    await asyncio.gather(*(put(number) for number in range(40)))
    assert (await sums(rows.db, rows.dataset_id))[0] == 5


async def test_a_removed_dataset_removes_its_totals(rows: Rows) -> None:
    async with rows.db.begin() as c:
        await entry_writes.put_file(c, rows.dataset_id, "a", content(100))
    async with rows.db.begin() as c:
        await c.execute(delete(Dataset))
    async with rows.db.read() as c:
        assert (await c.execute(select(func.count()).select_from(DatasetUsage))).scalar_one() == 0


async def test_usage_sums_datasets_by_organization_and_organizations_by_owner(
    rows: Rows,
) -> None:
    second = await add_dataset(rows.db, rows.user_id, "second")
    async with rows.db.begin() as c:
        await entry_writes.put_file(c, rows.dataset_id, "a", content(100))
        await entry_writes.put_file(c, second.dataset_id, "b", content(20))
    async with rows.db.read() as c:
        org, other = [await usage.stored_in_org(c, who.org_id) for who in (rows, second)]
        owner = await usage.stored_of_owner(c, rows.user_id)
    assert (org.total_bytes, other.total_bytes, owner.total_bytes) == (100, 20, 120)
    assert (owner.entries, owner.datasets) == (2, 2)


NAMES = st.sampled_from(["a", "b", "c/d", "c/e"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, st.integers(0, 1000)),
        st.tuples(st.just("remove"), NAMES, st.just(0)),
        st.tuples(st.just("copy"), NAMES, st.just(0)),
    ),
    max_size=8,
)


@given(steps=STEPS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_totals_stay_correct_after_any_sequence_of_changes(rows: Rows, steps: list[Any]) -> None:
    for number, (what, path, size_bytes) in enumerate(steps):
        async with rows.db.begin() as c:
            if what == "put":
                await entry_writes.put_file(c, rows.dataset_id, path, content(size_bytes))
            elif what == "remove":
                await entry_writes.remove_within(c, rows.dataset_id, path)
            else:
                await entry_writes.remove_within(c, rows.dataset_id, f"copy-{number}")
                await tree.copy(c, rows.dataset_id, path, f"copy-{number}", new_type=None)
        await sums(rows.db, rows.dataset_id)

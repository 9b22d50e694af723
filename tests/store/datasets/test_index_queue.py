"""Order in which entries are indexed: single uploads before bulk, organizations in turn, lost claims by themselves."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from tests.support.rows import Rows, add_dataset

from aerotask.store.datasets import entry_writes, index_queue, indexing, tree
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.datasets.index_queue import FROM_THE_FIRST, IndexLane, UnindexedEntry
from aerotask.store.datasets.indexing import Metadata

IMAGE = Metadata("image", {})


@pytest.fixture
async def orgs(rows: Rows) -> list[Rows]:
    """Datasets of three organizations, in the order of the organizations' ids."""
    made = [await add_dataset(rows.db, rows.user_id, f"org-{number}") for number in range(3)]
    return sorted(made, key=lambda one: one.org_id)


async def put(rows: Rows, *names: str) -> None:
    """Upload the files one by one."""
    async with rows.db.begin() as connection:
        for name in names:
            content = EntryContent(f"key of {name}", "00", 1, "generic")
            await entry_writes.put_file(connection, rows.dataset_id, name, content)


async def put_together(rows: Rows, *names: str) -> None:
    async with rows.db.begin() as connection:
        contents = {name: EntryContent(f"key of {name}", "00", 1, "generic") for name in names}
        await entry_writes.put_files(connection, rows.dataset_id, contents)


async def claim(
    rows: Rows,
    lane: IndexLane = IndexLane.SINGLE,
    *,
    max_count: int = 100,
    lease_s: float = 60,
    after: UUID = FROM_THE_FIRST,
) -> list[UnindexedEntry]:
    async with rows.db.begin() as connection:
        return await index_queue.claim(connection, lane, max_count=max_count, lease_s=lease_s, after=after)


async def names(rows: Rows, lane: IndexLane = IndexLane.SINGLE, *, max_count: int = 100) -> list[str]:
    return [entry.path for entry in await claim(rows, lane, max_count=max_count)]


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:02}" for number in range(count)]


async def test_organizations_take_turns_each_oldest_first(orgs: list[Rows]) -> None:
    first, second, third = orgs
    await put(first, *numbered("a", 10))
    await put(second, "b00", "b01")
    await put(third, "c00")
    assert await names(first, max_count=7) == ["a00", "b00", "c00", "a01", "b01", "a02"]
    assert await names(first, max_count=4) == ["a03", "a04", "a05", "a06"]


async def test_turns_go_on_behind_the_organization_that_was_last(orgs: list[Rows]) -> None:
    first, second, third = orgs
    for one, prefix in zip(orgs, "abc", strict=True):
        await put(one, *numbered(prefix, 2))
    served = await claim(first, max_count=2)
    assert [entry.path for entry in served] == ["a00", "b00"]
    assert [entry.org for entry in served] == [first.org_id, second.org_id]
    again = await claim(first, max_count=2, after=served[-1].org)
    assert [entry.path for entry in again] == ["c00", "c01"]
    rest = await claim(first, max_count=5, after=third.org_id)
    assert [entry.path for entry in rest] == ["a01", "b01"]


async def test_single_uploads_and_bulk_have_lanes_of_their_own(orgs: list[Rows]) -> None:
    first, second, _ = orgs
    await put_together(first, *numbered("a", 3))
    await put_together(second, "b00", "b01")
    await put(first, "a99")
    assert await names(first) == ["a99"]
    assert await names(first, IndexLane.BULK) == ["a00", "b00", "a01", "b01", "a02"]
    assert await names(first) == await names(first, IndexLane.BULK) == []


async def test_a_file_that_is_read_again_waits_in_its_lane(rows: Rows) -> None:
    await put_together(rows, "a.shp", "b.shp")
    for entry in await claim(rows, IndexLane.BULK):
        async with rows.db.begin() as connection:
            await indexing.finish_all(connection, [(entry, IMAGE)])
    async with rows.db.begin() as connection:
        await indexing.index_again(connection, rows.dataset_id, ["a.shp", "a.SHP"])
        await indexing.index_again(connection, rows.dataset_id, ["b.shp"], lane=IndexLane.BULK)
    assert await names(rows) == ["a.shp"]
    assert await names(rows, IndexLane.BULK) == ["b.shp"]


async def test_copies_that_are_not_indexed_wait_as_bulk(rows: Rows) -> None:
    await put(rows, "one/a", "one/b")
    (entry, _) = await claim(rows)
    async with rows.db.begin() as connection:
        await indexing.finish_all(connection, [(entry, IMAGE)])
        await tree.copy(connection, rows.dataset_id, "one", "two", new_type=None)
    assert await names(rows, IndexLane.BULK) == ["two/b"]


async def test_entries_of_an_older_version_have_a_turn_too(orgs: list[Rows]) -> None:
    first, second, _ = orgs
    await put(second, "b00", "b01")
    await put(first, "old")
    async with first.db.begin() as connection:
        await connection.execute(text("UPDATE entries SET index_org_id = NULL WHERE path = 'old'"))
    assert await names(first) == ["b00", "old", "b01"]


async def test_a_released_entry_keeps_its_place_and_its_attempts(rows: Rows) -> None:
    await put(rows, "a", "b", "c")
    claimed = await claim(rows, max_count=2)
    assert [(entry.path, entry.attempt) for entry in claimed] == [("a", 1), ("b", 1)]
    async with rows.db.begin() as connection:
        await index_queue.release(connection, claimed)
        await index_queue.release(connection, [])
    again = await claim(rows)
    assert [(entry.path, entry.attempt) for entry in again] == [("a", 1), ("b", 1), ("c", 1)]


async def test_a_lost_claim_is_repeated_in_the_slow_lane_when_it_has_passed(rows: Rows) -> None:
    await put(rows, "a")
    await put_together(rows, "b")
    await claim(rows, lease_s=60)
    await claim(rows, IndexLane.BULK, lease_s=0)
    assert await names(rows) == await names(rows, IndexLane.BULK) == []
    (again,) = await claim(rows, IndexLane.SLOW)
    assert (again.path, again.attempt) == ("b", 2)


async def test_a_claim_can_be_extended(rows: Rows) -> None:
    await put(rows, "a")
    async with rows.db.begin() as connection:
        (entry,) = await index_queue.claim(connection, IndexLane.SINGLE, max_count=1, lease_s=0)
        await index_queue.extend(connection, entry, lease_s=60)
    assert await claim(rows, IndexLane.SLOW) == []


async def test_a_postponed_entry_goes_to_the_end_of_the_slow_lane(rows: Rows) -> None:
    await put(rows, "a", "b", "c")
    first, second, third = await claim(rows)
    async with rows.db.begin() as connection:
        await index_queue.postpone(connection, second, pause_s=0, counted=True)
        await index_queue.postpone(connection, first, pause_s=0, counted=False)
        await index_queue.postpone(connection, third, pause_s=60, counted=True)
    again = await claim(rows, IndexLane.SLOW)
    assert [(entry.path, entry.attempt) for entry in again] == [("b", 2), ("a", 1)]


async def test_an_entry_that_was_given_up_counts_as_indexed_and_is_due_again_later(rows: Rows) -> None:
    await put(rows, "a", "b")
    now, later = await claim(rows)
    async with rows.db.begin() as connection:
        assert await indexing.give_up(connection, now, IMAGE, retry_s=0)
        assert await indexing.give_up(connection, later, IMAGE, retry_s=3600)
        indexed = await connection.execute(text("SELECT count(*) FROM entries WHERE indexed"))
        assert indexed.scalar_one() == 2
    (again,) = await claim(rows, IndexLane.GIVEN_UP)
    assert (again.path, again.attempt) == ("a", 2)
    async with rows.db.begin() as connection:
        assert await indexing.finish_all(connection, [(again, IMAGE)]) == 1
        await connection.execute(text("UPDATE entries SET index_due_at = now() WHERE path = 'a'"))
    assert await claim(rows, IndexLane.GIVEN_UP) == []


async def test_a_copy_of_an_entry_that_was_given_up_is_due_again_too(rows: Rows) -> None:
    await put(rows, "one/a")
    (entry,) = await claim(rows)
    async with rows.db.begin() as connection:
        await indexing.give_up(connection, entry, IMAGE, retry_s=0)
        await tree.copy(connection, rows.dataset_id, "one", "two", new_type=None)
    assert sorted(await names(rows, IndexLane.GIVEN_UP)) == ["one/a", "two/a"]


async def test_a_rescan_that_gives_up_makes_an_entry_due_again_and_one_that_reads_it_does_not(
    rows: Rows,
) -> None:
    await put(rows, "a", "b")
    row: dict[str, Any] = {
        "sha256": "ff",
        "type": "image",
        "properties": {},
        "point_geom": None,
        "polygon_geom": None,
        "lacks_overviews": False,
    }
    async with rows.db.begin() as connection:
        for name, was_given_up in (("a", True), ("b", False)):
            found = {**row, "path": name, "blob_key": f"key of {name}", "given_up": was_given_up}
            assert await indexing.update_metadata(connection, rows.dataset_id, [found]) == 1
    assert await claim(rows, IndexLane.GIVEN_UP) == []
    async with rows.db.begin() as connection:
        await connection.execute(text("UPDATE entries SET index_due_at = index_due_at - interval '1 hour'"))
    assert await names(rows, IndexLane.GIVEN_UP) == ["a"]


async def test_a_raster_without_overviews_waits_for_them_in_a_lane_of_its_own(rows: Rows) -> None:
    await put(rows, "a", "b")
    found = Metadata("geoRaster", {}, lacks_overviews=True)
    async with rows.db.begin() as connection:
        await indexing.finish_all(connection, [(entry, found) for entry in await claim(rows)])
    first, second = await claim(rows, IndexLane.OVERVIEWS)
    async with rows.db.begin() as connection:
        assert await index_queue.finish_overviews(connection, first)
        await index_queue.postpone(connection, second, pause_s=-1, counted=True)
    (again,) = await claim(rows, IndexLane.OVERVIEWS, lease_s=0)
    assert (again.path, again.attempt) == (second.path, 2)
    # Its worker was lost, then the content replaced: the former claim is void.
    (taken_over,) = await claim(rows, IndexLane.OVERVIEWS)
    assert taken_over.attempt == 3
    await put(rows, second.path)
    async with rows.db.begin() as connection:
        assert not await index_queue.finish_overviews(connection, taken_over)
    assert await names(rows, IndexLane.OVERVIEWS) == []
    assert await names(rows) == [second.path]


async def test_a_batch_leaves_out_what_another_transaction_has_locked(rows: Rows) -> None:
    await put(rows, *numbered("a", 40))
    async with rows.db.begin() as other:
        await other.execute(text("SELECT 1 FROM entries WHERE path < 'a35' FOR UPDATE"))
        assert await names(rows, max_count=3) == ["a35", "a36", "a37"]

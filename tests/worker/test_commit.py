"""What a run declared takes effect whole, in its order, and only for whoever holds the lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select
from tests.support.databases import wait_for_lock
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.blobs.blob_store import Blob
from aerotask.db.engine import Database
from aerotask.db.models import Entry
from aerotask.domain.errors import Conflict
from aerotask.domain.ids import LeaseToken, new_id
from aerotask.domain.settings import LogLimits
from aerotask.sdk import Existing
from aerotask.services.datasets.entries import put_content, put_contents, remove_content
from aerotask.store.datasets import entries
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.queue import cancel, leases, logs
from aerotask.store.queue.claims import ClaimedTask, TaskInputRow
from aerotask.store.queue.leases import LeaseLost, Report
from aerotask.store.tasks import tasks
from aerotask.worker.commit import apply_success
from aerotask.worker.outputs import StoredChanges, StoredEdit, StoredFolder, StoredPut, StoredRemoval


@pytest.fixture
async def rows(database: Database) -> Rows:
    made = await add_dataset(database, await add_user(database, "owner"), "acme")
    async with made.db.begin() as connection:
        old = {path: EntryContent(f"old {path}", "0", 1, "generic") for path in ("a/1", "a/2", "b")}
        await put_contents(connection, made.dataset_id, old)
    return made


def put(at: str, *, existing: Existing = Existing.REPLACE) -> StoredPut:
    return StoredPut(at, Blob(f"new {at}", "1", 1), existing)


async def apply(rows: Rows, task: ClaimedTask, *edits: StoredEdit) -> None:
    async with rows.db.begin() as connection:
        await apply_success(
            connection,
            task,
            Report(0),
            StoredChanges((), edits, None),
            log_limits=LogLimits(100, 100_000),
            actor="tests",
            artifact_ttl=timedelta(hours=1),
        )


async def claimed(rows: Rows) -> ClaimedTask:
    await rows.task()
    return await rows.claimed()


async def contents(rows: Rows) -> dict[str, str | None]:
    async with rows.db.read() as connection:
        found = await entries.find_within(connection, rows.dataset_id, [""])
    return {row.path: row.blob_key for row in found if row.type != "directory"}


async def test_edits_take_effect_in_their_order(rows: Rows) -> None:
    task = await claimed(rows)
    await apply(
        rows,
        task,
        put("a/1"),
        StoredRemoval("a"),
        put("a/3"),
        StoredFolder("c/d"),
        put("e"),
        StoredRemoval("e"),
    )
    assert await contents(rows) == {"a/3": "new a/3", "b": "old b"}
    async with rows.db.read() as connection:
        assert await entries.find(connection, rows.dataset_id, "c/d") is not None


async def test_a_put_that_may_replace_nothing_refuses_the_whole_set(rows: Rows) -> None:
    task = await claimed(rows)
    with pytest.raises(Conflict) as refusal:
        await apply(rows, task, put("a/9"), StoredRemoval("a"), put("b", existing=Existing.REFUSE))
    assert refusal.value.code == "output-exists"
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2", "b": "old b"}
    await apply(rows, task, put("a/9", existing=Existing.REFUSE))
    assert (await contents(rows))["a/9"] == "new a/9"


async def test_a_cautious_put_gives_way_and_is_not_among_the_outputs(rows: Rows) -> None:
    task = await claimed(rows)
    await apply(rows, task, put("a/1", existing=Existing.KEEP), put("a/9", existing=Existing.KEEP), put("b"))
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2", "a/9": "new a/9", "b": "new b"}
    async with rows.db.read() as connection:
        row = await tasks.find(connection, rows.dataset_id, task.lease.task_id)
    assert row is not None
    assert [output["path"] for output in row.outputs] == ["a/9", "b"]


async def claimed_reading(rows: Rows, *paths: str) -> ClaimedTask:
    """A task that was given these entries as they are."""
    await rows.task(inputs=tuple(TaskInputRow(path, "0", f"old {path}") for path in paths))
    return await rows.claimed()


async def log_of(rows: Rows, task: ClaimedTask) -> list[str]:
    async with rows.db.read() as connection:
        page = await logs.read(connection, task.lease.task_id, since=0, take=100)
    return list(page.lines)


async def test_an_input_is_removed_as_long_as_it_is_what_was_read(rows: Rows) -> None:
    task = await claimed_reading(rows, "b")
    await apply(rows, task, put("a/3"), StoredRemoval("b"))
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2", "a/3": "new a/3"}
    assert await log_of(rows, task) == []


@pytest.mark.parametrize("at", ["b", "b/deep/er"])
async def test_what_came_to_the_place_of_an_input_is_not_removed(rows: Rows, at: str) -> None:
    task = await claimed_reading(rows, "b")
    async with rows.db.begin() as connection:
        await remove_content(connection, rows.dataset_id, "b")
        await put_content(connection, rows.dataset_id, at, EntryContent("newer", "2", 1, "generic"))
    await apply(rows, task, put("a/3"), StoredRemoval("b"))
    assert (await contents(rows))[at] == "newer"
    assert (await contents(rows))["a/3"] == "new a/3"
    assert await log_of(rows, task) == [
        "Warning: 'b' stays, since it holds something else by now than what was read."
    ]


async def test_what_the_run_itself_puts_in_the_place_of_an_input_is_not_removed(rows: Rows) -> None:
    task = await claimed_reading(rows, "b")
    await apply(rows, task, put("b"), StoredRemoval("b"))
    assert (await contents(rows))["b"] == "new b"


async def test_an_input_that_is_gone_already_needs_no_removal(rows: Rows) -> None:
    task = await claimed_reading(rows, "b")
    async with rows.db.begin() as connection:
        await remove_content(connection, rows.dataset_id, "b")
    await apply(rows, task, StoredRemoval("b"))
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2"}
    assert await log_of(rows, task) == []


@pytest.mark.parametrize(
    "edits", [(put("x"), put("a")), (put("x"), put("b/c")), (put("x"), StoredFolder("b"))]
)
async def test_what_does_not_fit_changes_nothing(rows: Rows, edits: tuple[StoredEdit, ...]) -> None:
    task, before = await claimed(rows), await contents(rows)
    with pytest.raises(Conflict):
        await apply(rows, task, *edits)
    assert await contents(rows) == before


async def test_whoever_has_lost_the_lease_changes_nothing(rows: Rows) -> None:
    task, before = await claimed(rows), await contents(rows)
    lost = replace(task, lease=replace(task.lease, token=LeaseToken(new_id())))
    with pytest.raises(LeaseLost):
        await apply(rows, lost, put("x"), StoredRemoval("b"))
    assert await contents(rows) == before


# While the changes take their time


@asynccontextmanager
async def held_halfway(rows: Rows, task: ClaimedTask) -> AsyncIterator[asyncio.Task[None]]:
    """Changes whose first half is made and whose second one waits for as long as the block lasts."""
    async with rows.db.begin() as other:
        await other.execute(select(Entry.id).where(Entry.path == "b").with_for_update())
        applying = asyncio.create_task(apply(rows, task, put("x"), StoredRemoval("a"), put("b")))
        await wait_for_lock(rows.db, "transactionid")
        yield applying


async def test_other_tasks_are_kept_alive_while_changes_are_made(rows: Rows) -> None:
    task, other = await claimed(rows), await claimed(rows)
    async with held_halfway(rows, task) as applying, asyncio.timeout(20), rows.db.begin() as connection:
        tokens = [task.lease.token, other.lease.token]
        assert await leases.renew(connection, tokens, worker_no=1, ttl_s=30) == set(tokens)
    await applying
    assert await contents(rows) == {"b": "new b", "x": "new x"}


async def test_a_task_can_be_cancelled_while_its_changes_are_made(rows: Rows) -> None:
    task, before = await claimed(rows), await contents(rows)
    async with held_halfway(rows, task) as applying:
        async with asyncio.timeout(20), rows.db.begin() as connection:
            deletion = await cancel.delete_one(connection, rows.dataset_id, task.lease.task_id, actor="owner")
        assert deletion is not None
        assert deletion.moved
    with pytest.raises(LeaseLost):
        await applying
    assert await contents(rows) == before

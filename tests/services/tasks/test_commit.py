"""Commit of a run's changes: complete, in order, and only with the lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import func, select, text
from tests.support.databases import wait_for_lock
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.storage import new_storage

from aerotask.blobs.blob_store import Blob
from aerotask.db.engine import Database
from aerotask.db.models import Entry
from aerotask.domain.errors import Conflict
from aerotask.domain.ids import LeaseToken, new_id
from aerotask.domain.settings import LogLimits
from aerotask.sdk import Existing
from aerotask.sdk.changes import Edit, PutEntry, PutFolder, RemoveEntry
from aerotask.services.datasets.contents import put_content, put_contents, remove_content
from aerotask.services.datasets.storage_quota import UNLIMITED
from aerotask.services.tasks.outcome.changes import StoredChanges
from aerotask.services.tasks.outcome.commit import CommitService
from aerotask.store.datasets import entries
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.queue import cancel, leases, logs
from aerotask.store.queue.claims import ClaimedTask, TaskInputRow
from aerotask.store.queue.leases import LeaseLost, Report
from aerotask.store.tasks import tasks


@pytest.fixture
async def rows(database: Database) -> Rows:
    made = await add_dataset(database, await add_user(database, "owner"), "acme")
    async with made.db.begin() as connection:
        old = {path: EntryContent(f"old {path}", "0", 1, "generic") for path in ("a/1", "a/2", "b")}
        await put_contents(connection, made.dataset_id, old)
    return made


def put(at: str, *, existing: Existing = Existing.REPLACE) -> PutEntry[Blob]:
    return PutEntry(Blob(f"new {at}", "1", 1), at, existing)


async def apply(rows: Rows, task: ClaimedTask, *edits: Edit[Blob]) -> None:
    limits = LogLimits(100, 100_000)
    with TemporaryDirectory() as storage:
        blobs = new_storage(Path(storage))
        commits = CommitService(rows.db, blobs, UNLIMITED, limits, timedelta(hours=1), "tests")
        async with rows.db.begin() as connection:
            await commits.commit_success(connection, task, StoredChanges(edits=edits), Report(0))


async def claimed(rows: Rows) -> ClaimedTask:
    await rows.task()
    return await rows.claimed()


async def contents(rows: Rows) -> dict[str, str | None]:
    async with rows.db.read() as connection:
        found = await entries.find_within(connection, rows.dataset_id, [""])
    return {row.path: row.blob_key for row in found if row.type != "directory"}


async def test_edits_are_applied_in_their_order(rows: Rows) -> None:
    task = await claimed(rows)
    await apply(
        rows,
        task,
        put("a/1"),
        RemoveEntry("a"),
        put("a/3"),
        PutFolder("c/d"),
        put("e"),
        RemoveEntry("e"),
    )
    assert await contents(rows) == {"a/3": "new a/3", "b": "old b"}
    async with rows.db.read() as connection:
        assert await entries.find(connection, rows.dataset_id, "c/d") is not None


async def test_a_put_that_may_not_replace_an_existing_file_rejects_the_whole_change_set(rows: Rows) -> None:
    task = await claimed(rows)
    with pytest.raises(Conflict) as refusal:
        await apply(rows, task, put("a/9"), RemoveEntry("a"), put("b", existing=Existing.REFUSE))
    assert refusal.value.code == "output-exists"
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2", "b": "old b"}
    await apply(rows, task, put("a/9", existing=Existing.REFUSE))
    assert (await contents(rows))["a/9"] == "new a/9"


async def test_a_put_that_keeps_an_existing_file_is_not_among_the_outputs(rows: Rows) -> None:
    task = await claimed(rows)
    await apply(rows, task, put("a/1", existing=Existing.KEEP), put("a/9", existing=Existing.KEEP), put("b"))
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2", "a/9": "new a/9", "b": "new b"}
    async with rows.db.read() as connection:
        row = await tasks.find(connection, rows.dataset_id, task.lease.task_id)
    assert row is not None
    assert [output["path"] for output in row.outputs] == ["a/9", "b"]


async def result_of(rows: Rows, task: ClaimedTask) -> dict[str, Any] | None:
    async with rows.db.read() as connection:
        row = await tasks.find(connection, rows.dataset_id, task.lease.task_id)
    assert row is not None
    return row.result


async def test_the_result_names_the_files_that_were_replaced_with_their_former_hashes(rows: Rows) -> None:
    task = await claimed(rows)
    await apply(rows, task, put("b"), put("a/9"), put("a/1"), put("a/2", existing=Existing.KEEP))
    assert await result_of(rows, task) == {
        "replaced": [{"path": "a/1", "hash": "0"}, {"path": "b", "hash": "0"}],
        "replacedCount": 2,
    }


async def test_the_result_of_a_run_that_puts_no_file_is_its_own(rows: Rows) -> None:
    task = await claimed(rows)
    await apply(rows, task, PutFolder("c"), RemoveEntry("b"))
    assert await result_of(rows, task) is None


async def claimed_reading(rows: Rows, *paths: str) -> ClaimedTask:
    """A claimed task with these entries as inputs."""
    await rows.task(inputs=tuple(TaskInputRow(path, "0", f"old {path}") for path in paths))
    return await rows.claimed()


async def log_of(rows: Rows, task: ClaimedTask) -> list[str]:
    async with rows.db.read() as connection:
        page = await logs.read(connection, task.lease.task_id, since=0, take=100)
    return list(page.lines)


async def test_an_input_is_removed_if_its_content_is_unchanged(rows: Rows) -> None:
    task = await claimed_reading(rows, "b")
    await apply(rows, task, put("a/3"), RemoveEntry("b"))
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2", "a/3": "new a/3"}
    assert await log_of(rows, task) == []


@pytest.mark.parametrize("at", ["b", "b/deep/er"])
async def test_new_content_at_the_path_of_an_input_is_not_removed(rows: Rows, at: str) -> None:
    task = await claimed_reading(rows, "b")
    async with rows.db.begin() as connection:
        await remove_content(connection, rows.dataset_id, "b")
        await put_content(connection, rows.dataset_id, at, EntryContent("newer", "2", 1, "generic"))
    await apply(rows, task, put("a/3"), RemoveEntry("b"))
    assert (await contents(rows))[at] == "newer"
    assert (await contents(rows))["a/3"] == "new a/3"
    assert await log_of(rows, task) == [
        "Warning: 'b' was not removed: its content has changed since the task read it."
    ]


async def test_content_that_the_run_itself_puts_at_the_path_of_an_input_is_not_removed(rows: Rows) -> None:
    task = await claimed_reading(rows, "b")
    await apply(rows, task, put("b"), RemoveEntry("b"))
    assert (await contents(rows))["b"] == "new b"


async def test_an_input_that_is_already_removed_needs_no_removal(rows: Rows) -> None:
    task = await claimed_reading(rows, "b")
    async with rows.db.begin() as connection:
        await remove_content(connection, rows.dataset_id, "b")
    await apply(rows, task, RemoveEntry("b"))
    assert await contents(rows) == {"a/1": "old a/1", "a/2": "old a/2"}
    assert await log_of(rows, task) == []


@pytest.mark.parametrize("edits", [(put("x"), put("a")), (put("x"), put("b/c")), (put("x"), PutFolder("b"))])
async def test_conflicting_edits_change_nothing(rows: Rows, edits: tuple[Edit[Blob], ...]) -> None:
    task, before = await claimed(rows), await contents(rows)
    with pytest.raises(Conflict):
        await apply(rows, task, *edits)
    assert await contents(rows) == before


async def test_a_commit_without_the_lease_changes_nothing(rows: Rows) -> None:
    task, before = await claimed(rows), await contents(rows)
    lost = replace(task, lease=replace(task.lease, token=LeaseToken(new_id())))
    with pytest.raises(LeaseLost):
        await apply(rows, lost, put("x"), RemoveEntry("b"))
    assert await contents(rows) == before


async def test_a_restart_of_postgres_while_outputs_are_discarded_is_outlasted(
    rows: Rows, database: Database, tmp_path: Path
) -> None:
    """It used to end the attempt with an error, although only a look-up had failed."""
    task, blobs = await claimed(rows), new_storage(tmp_path)
    (tmp_path / "made").write_bytes(b"output")
    blob = await blobs.ingest(tmp_path / "made")
    lost = replace(task, lease=replace(task.lease, token=LeaseToken(new_id())))
    commits = CommitService(rows.db, blobs, UNLIMITED, LogLimits(9, 999), timedelta(hours=1), "tests")
    async with rows.db.read() as reading:  # the pool now keeps a connection that the restart breaks
        pid = (await reading.execute(text("SELECT pg_backend_pid()"))).scalar_one()
    async with rows.db.begin() as connection:
        await connection.execute(select(func.pg_terminate_backend(pid, 10_000)))
    changes = StoredChanges(edits=(PutEntry(blob, "x", Existing.REPLACE),))
    with pytest.raises(LeaseLost):
        await commits.finish(lost, changes, Report(0), lost=asyncio.Event())
    with pytest.raises(FileNotFoundError):
        await blobs.link_to(blob.key, tmp_path / "linked")


# During long changes


@asynccontextmanager
async def held_halfway(rows: Rows, task: ClaimedTask) -> AsyncIterator[asyncio.Task[None]]:
    """Changes that are half applied and wait while the block runs."""
    async with rows.db.begin() as other:
        await other.execute(select(Entry.id).where(Entry.path == "b").with_for_update())
        applying = asyncio.create_task(apply(rows, task, put("x"), RemoveEntry("a"), put("b")))
        await wait_for_lock(rows.db, "transactionid")
        yield applying


async def test_leases_are_renewed_while_changes_are_applied(rows: Rows) -> None:
    task, other = await claimed(rows), await claimed(rows)
    async with held_halfway(rows, task) as applying, asyncio.timeout(20), rows.db.begin() as connection:
        tokens = [task.lease.token, other.lease.token]
        assert await leases.renew(connection, tokens, worker_no=1, ttl_s=30) == set(tokens)
    await applying
    assert await contents(rows) == {"b": "new b", "x": "new x"}


async def test_a_task_can_be_cancelled_while_its_changes_are_applied(rows: Rows) -> None:
    task, before = await claimed(rows), await contents(rows)
    async with held_halfway(rows, task) as applying:
        async with asyncio.timeout(20), rows.db.begin() as connection:
            deletion = await cancel.cancel_or_delete(
                connection, rows.dataset_id, task.lease.task_id, actor="owner"
            )
        assert deletion is not None
        assert deletion.changed
    with pytest.raises(LeaseLost):
        await applying
    assert await contents(rows) == before

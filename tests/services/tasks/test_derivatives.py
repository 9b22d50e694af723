"""Derivatives that a run publishes while it goes on, in transactions fenced by its lease."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from tests.support.databases import wait_for_lock
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.storage import new_storage

from aerotask.blobs.blob_store import Blob
from aerotask.db.engine import Database
from aerotask.db.models import Task, TaskInput
from aerotask.domain.errors import TaskFailed
from aerotask.domain.ids import LeaseToken, TaskId, new_id
from aerotask.domain.settings import LogLimits
from aerotask.sandbox.protocol import decode, encode
from aerotask.sdk.changes import PutDerivative
from aerotask.services.datasets.storage_quota import UNLIMITED
from aerotask.services.tasks.outcome.changes import StoredChanges, apply_changes
from aerotask.services.tasks.outcome.commit import CommitService
from aerotask.services.tasks.snapshots import derivatives_of_inputs
from aerotask.store.datasets import derivatives
from aerotask.store.queue import cancel, leases
from aerotask.store.queue.claims import ClaimedTask, TaskInputRow
from aerotask.store.queue.leases import LeaseLost
from aerotask.worker.jobs import ToolInputs

CONTENT = "a" * 64


@pytest.fixture
async def rows(database: Database) -> Rows:
    return await add_dataset(database, await add_user(database, "owner"), "acme")


async def claimed(rows: Rows) -> ClaimedTask:
    """A running task with one input."""
    task_id: TaskId = await rows.task()
    async with rows.db.begin() as connection:
        given = {"task_id": task_id, "path": "a.tif", "sha256": CONTENT, "blob_key": "blob"}
        await connection.execute(insert(TaskInput).values(given))
    return await rows.claimed()


async def succeed(rows: Rows, task: ClaimedTask, of: str) -> None:
    made = PutDerivative(Blob("key", "c" * 64, 10), of, "cog", "1", {"width": 3})
    changes = StoredChanges(derivatives=(made,))
    async with rows.db.begin() as connection:
        await apply_changes(connection, task, changes)
    assert changes.blob_keys == ["key"]


async def test_a_derivative_belongs_to_the_content_that_the_task_read(rows: Rows) -> None:
    await succeed(rows, await claimed(rows), "a.tif")
    async with rows.db.read() as connection:
        [row] = await derivatives.find_of(connection, rows.dataset_id, CONTENT)
    assert (row.kind, row.blob_key, row.size_bytes, row.properties) == ("cog", "key", 10, {"width": 3})


async def test_a_derivative_of_an_entry_that_is_no_input_changes_nothing(rows: Rows) -> None:
    with pytest.raises(TaskFailed) as failed:
        await succeed(rows, await claimed(rows), "b.tif")
    assert failed.value.code == "bad-output"
    async with rows.db.read() as connection:
        assert (await connection.execute(select(Task.state))).scalar_one() == "Processing"
        assert await derivatives.list_by_source(connection, rows.dataset_id, [CONTENT]) == {}


async def publish(rows: Rows, task: ClaimedTask, folder: Path) -> Blob:
    """Publish a derivative of the task's input, and return its stored content."""
    blobs = new_storage(folder / "storage")
    (folder / "made.tif").write_bytes(b"tiles")
    blob = await blobs.ingest(folder / "made.tif")
    commits = CommitService(rows.db, blobs, UNLIMITED, LogLimits(9, 999), timedelta(hours=1), "tests")
    changes = StoredChanges(derivatives=(PutDerivative(blob, "a.tif", "cog", "1", {}),))
    await commits.publish(task, changes, lost=asyncio.Event())
    return blob


async def test_a_derivative_of_a_running_task_can_be_used_at_once(rows: Rows, tmp_path: Path) -> None:
    task = await claimed(rows)
    blob = await publish(rows, task, tmp_path)
    async with rows.db.read() as connection:
        [row] = await derivatives.find_of(connection, rows.dataset_id, CONTENT)
        assert (row.blob_key, row.sha256) == (blob.key, blob.sha256)
        assert (await connection.execute(select(Task.state))).scalar_one() == "Processing"


async def test_nothing_is_published_without_the_lease(rows: Rows, tmp_path: Path) -> None:
    task = await claimed(rows)
    lost = replace(task, lease=replace(task.lease, token=LeaseToken(new_id())))
    with pytest.raises(LeaseLost):
        await publish(rows, lost, tmp_path)
    async with rows.db.read() as connection:
        assert await derivatives.find_of(connection, rows.dataset_id, CONTENT) == []
    assert [file for file in (tmp_path / "storage" / "blobs").rglob("*") if file.is_file()] == []


async def test_a_cancel_waits_for_a_publication_that_has_checked_the_lease(rows: Rows) -> None:
    task = await claimed(rows)
    async with rows.db.begin() as publishing:
        await leases.lock_held(publishing, task.lease)
        cancelling = asyncio.create_task(cancel_task(rows, task))
        await wait_for_lock(rows.db, "transactionid")
    await cancelling
    async with rows.db.begin() as connection:
        with pytest.raises(LeaseLost):
            await leases.lock_held(connection, task.lease)


async def cancel_task(rows: Rows, task: ClaimedTask) -> None:
    async with rows.db.begin() as connection:
        await cancel.cancel_or_delete(connection, rows.dataset_id, task.lease.task_id, actor="owner")


async def test_an_attempt_knows_which_derivatives_were_made_since_the_submit(
    rows: Rows, tmp_path: Path
) -> None:
    first = await claimed(rows)
    await publish(rows, first, tmp_path)
    second = replace(await claimed(rows), inputs=(TaskInputRow("a.tif", CONTENT, "blob"),))
    first = replace(first, inputs=second.inputs)
    async with rows.db.read() as connection:
        made = (("a.tif", "cog", "1"),)
        assert await derivatives_of_inputs(connection, first, since_submit=True) == made
        assert await derivatives_of_inputs(connection, second, since_submit=True) == ()
        assert await derivatives_of_inputs(connection, second, since_submit=False) == made


def test_the_inputs_of_a_run_list_the_existing_derivatives() -> None:
    inputs = ToolInputs(
        files={"a.tif": "/in/a.tif"}, derived=(("a.tif", "cog", "1"),), derived_since_submit=()
    )
    assert ToolInputs.from_body(decode(encode(inputs.to_message())).body) == inputs

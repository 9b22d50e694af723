"""Derivatives that a run declares: stored, and inserted by the transaction that ends the task."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.storage import new_storage

from aerotask.blobs.blob_store import Blob
from aerotask.db.engine import Database
from aerotask.db.models import Task, TaskInput
from aerotask.domain.errors import TaskFailed
from aerotask.domain.ids import TaskId
from aerotask.sandbox.protocol import decode, encode
from aerotask.sdk.changes import PutDerivative
from aerotask.services.tasks.outcome.changes import StoredChanges, apply_changes
from aerotask.store.datasets import derivatives
from aerotask.store.queue.claims import ClaimedTask
from aerotask.worker.jobs import ToolInputs
from aerotask.worker.outputs import store_outputs

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


def declared(path: Path, of: str) -> dict[str, Any]:
    made = {"path": str(path), "of": of, "kind": "cog", "builder": "1", "properties": {}}
    return {"artifacts": [], "edits": [], "result": None, "derivatives": [made]}


async def test_only_planned_paths_get_derivatives(tmp_path: Path) -> None:
    blobs, work = new_storage(tmp_path / "storage"), tmp_path / "work"
    work.mkdir()
    (work / "made.tif").write_bytes(b"tiles")
    for file, of in ((work / "made.tif", "b.tif"), (tmp_path / "foreign", "a/x.tif")):
        with pytest.raises(TaskFailed) as failed:
            await store_outputs(blobs, declared(file, of), workdir=work, may_write=["a"])
        assert failed.value.code == "bad-output"
    stored = await store_outputs(blobs, declared(work / "made.tif", "a/x.tif"), workdir=work, may_write=["a"])
    [made] = stored.derivatives
    assert (made.of, made.kind, made.content.size_bytes) == ("a/x.tif", "cog", 5)


def test_the_inputs_of_a_run_list_the_existing_derivatives() -> None:
    inputs = ToolInputs(files={"a.tif": "/in/a.tif"}, derived=(("a.tif", "cog", "1"),))
    assert ToolInputs.from_body(decode(encode(inputs.to_message())).body) == inputs

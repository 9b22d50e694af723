"""Information about another user's task: its callback URL, its dataset, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import select, update
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.models import AuditEvent, Dataset, Task
from aerotask.domain.access import ANONYMOUS, Caller, Membership, Visibility
from aerotask.domain.errors import Conflict
from aerotask.domain.ids import DatasetId, TaskId, new_id
from aerotask.services.tasks.quota import QuotaRequest
from aerotask.services.tasks.submit import Submission
from aerotask.store.datasets import datasets, orgs
from aerotask.store.tasks.tasks import TaskFilter
from aerotask.wiring import Platform

URL = "https://mallory.example/?token=secret"
RESCAN = {"tool_id": "rescan-index", "params": {}}


@dataclass(frozen=True)
class Scene:
    """A dataset of an owner, and a task in it of Mallory, who has write access."""

    platform: Platform
    rows: Rows
    mallory: Caller
    task_id: TaskId

    @property
    def owner(self) -> Caller:
        return Caller(self.rows.user_id, "owner")


@pytest.fixture
async def scene(platform: Platform) -> Scene:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    mallory = await writer(rows, "mallory")
    task_id = await rows.task(user_id=mallory.user_id, callback_url=URL, unique_id="taken", **RESCAN)
    return Scene(platform, rows, mallory, task_id)


async def writer(rows: Rows, name: str) -> Caller:
    user_id = await add_user(rows.db, name)
    async with rows.db.begin() as connection:
        await orgs.set_member(connection, rows.org_id, user_id, Membership.READ_WRITE)
    return Caller(user_id, name)


async def open_to_all(scene: Scene) -> None:
    async with scene.platform.db.begin() as connection:
        await connection.execute(update(Dataset).values(visibility=Visibility.PUBLIC))


async def url_of_restart(scene: Scene, caller: Caller) -> tuple[UUID | None, str | None]:
    reruns = scene.platform.retries
    made = await reruns.restart(caller, "acme", "acme", scene.task_id, params={}, rerun_from=None)
    async with scene.platform.db.read() as connection:
        query = select(Task.user_id, Task.callback_url).where(Task.id == made.task_id)
        row = (await connection.execute(query)).one()
    return row[0], row[1]


async def test_a_restart_by_another_user_does_not_copy_the_callback_url(scene: Scene) -> None:
    await scene.platform.tasks.delete(scene.owner, "acme", "acme", scene.task_id)
    assert await url_of_restart(scene, scene.owner) == (scene.rows.user_id, None)
    assert await url_of_restart(scene, scene.mallory) == (scene.mallory.user_id, URL)


async def test_the_callback_url_is_shown_only_to_managers_of_the_task(scene: Scene) -> None:
    await open_to_all(scene)
    tasks = scene.platform.tasks
    reader = Caller(await add_user(scene.platform.db, "reader"), "reader")
    colleague = await writer(scene.rows, "colleague")
    root = Caller(await add_user(scene.platform.db, "root"), "root", is_admin=True)
    program = Caller(scene.mallory.user_id, "mallory", read_only=True)
    for caller, expected in (
        (ANONYMOUS, None),
        (reader, None),
        (colleague, None),
        (program, None),
        (scene.mallory, URL),
        (scene.owner, URL),
        (root, URL),
    ):
        status = await tasks.status(caller, "acme", "acme", scene.task_id)
        (listed,) = (await tasks.list_tasks(caller, "acme", "acme", TaskFilter(), skip=0, take=9)).items
        assert (caller.user_name, status.callback_url, listed.callback_url) == (
            caller.user_name,
            expected,
            expected,
        )
    (own,) = (await tasks.list_own(scene.mallory, TaskFilter(), skip=0, take=9)).items
    (every,) = (await tasks.list_all(root, TaskFilter(), skip=0, take=9)).items
    assert (own.callback_url, every.callback_url) == (URL, URL)


async def refusal(scene: Scene, caller: Caller, slug: str) -> Conflict:
    submission = Submission("rescan-index", unique_id="taken", force=True)
    dataset = await scene.platform.access.dataset(caller, "acme", slug)
    new = scene.rows.new_task(
        dataset_id=dataset.row.id, user_id=caller.user_id, unique_id=submission.unique_id, **RESCAN
    )
    quota = QuotaRequest(new.org_id, new.user_id, new.estimated_output_bytes)
    async with scene.platform.db.engine.connect() as connection:
        with pytest.raises(Conflict) as refused:
            await scene.platform.submit._add(connection, caller, new, quota)
    return refused.value


async def test_the_owner_of_a_unique_id_is_shown_only_to_readers_of_its_dataset(scene: Scene) -> None:
    async with scene.platform.db.begin() as connection:
        await datasets.add(
            connection,
            dataset_id=DatasetId(new_id()),
            org_id=scene.rows.org_id,
            slug="open",
            name="open",
            tagline="",
            visibility=Visibility.PUBLIC,
        )
    for caller in (ANONYMOUS, Caller(await add_user(scene.platform.db, "stranger"), "stranger")):
        refused = await refusal(scene, caller, "open")
        assert (refused.code, refused.location) == ("unique-id-taken", None)
        assert str(scene.task_id) not in refused.message
    shown = await refusal(scene, scene.mallory, "open")
    assert shown.location == f"/orgs/acme/ds/acme/tasks/{scene.task_id}"


async def test_clearing_a_datasets_tasks_is_in_the_audit_log(scene: Scene) -> None:
    tasks = scene.platform.tasks
    assert await tasks.clear(scene.owner, "acme", "acme", tool_id=None) == 0
    await tasks.delete(scene.mallory, "acme", "acme", scene.task_id)
    assert await tasks.clear(scene.owner, "acme", "acme", tool_id="rescan-index") == 1
    async with scene.platform.db.read() as connection:
        columns = (AuditEvent.actor, AuditEvent.action, AuditEvent.target, AuditEvent.details)
        rows = (await connection.execute(select(*columns))).all()
    assert [tuple(row) for row in rows] == [
        ("owner", "tasks-cleared", "/orgs/acme/ds/acme/tasks", {"tasks": 1, "toolId": "rescan-index"})
    ]

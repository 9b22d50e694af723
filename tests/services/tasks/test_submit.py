"""Locks of a submit, and the flush that it waits for before it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import event, select, text
from tests.support.databases import fresh_database, make_template
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.config import Settings
from aerotask.db import locks
from aerotask.db.locks import LockSpace
from aerotask.db.models import Task
from aerotask.domain.access import Caller
from aerotask.domain.errors import LimitReached
from aerotask.domain.ids import TaskId
from aerotask.services.tasks.submit import Submission
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.postgres import EmbeddedPostgres
from aerotask.store.datasets import entry_writes
from aerotask.store.datasets.entries import EntryContent
from aerotask.wiring import Platform, open_platform

TIMEOUT_S = 60


async def prepared(platform: Platform) -> Rows:
    return await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")


async def submit(
    platform: Platform, rows: Rows, submission: Submission, *, to: str = "acme", key: str | None = None
) -> TaskId:
    caller = Caller(rows.user_id, "owner")
    submitted = await platform.submit.submit(caller, to, to, submission, idempotency_key=key)
    return submitted.task_id


async def waits_for_blobs(platform: Platform, submitting: asyncio.Task[TaskId]) -> None:
    """Wait until it waits for the lock that the removal of orphans takes."""
    waiting = text("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = :space AND NOT granted")
    async with platform.db.read() as connection, asyncio.timeout(TIMEOUT_S):
        while not (await connection.execute(waiting, {"space": int(LockSpace.BLOBS)})).first():
            assert not submitting.done(), submitting.exception()


async def test_a_submit_that_waits_for_its_files_delays_no_other(platform: Platform) -> None:
    rows = await prepared(platform)
    await add_dataset(platform.db, rows.user_id, "empty")
    async with rows.db.begin() as connection:
        await entry_writes.put_file(
            connection, rows.dataset_id, "a.txt", EntryContent("key", "00ff", 7, "generic")
        )
    packing = Submission("bulk-download", params={"paths": ["a.txt"]})
    async with rows.db.begin() as sweep:
        await locks.take(sweep, LockSpace.BLOBS)
        held = asyncio.create_task(submit(platform, rows, packing))
        await waits_for_blobs(platform, held)
        async with asyncio.timeout(TIMEOUT_S):
            await submit(platform, rows, Submission("rescan-index"), to="empty")
        assert not held.done()
    await held


async def test_a_refusal_at_a_limit_writes_nothing(settings: Settings) -> None:
    one = Settings.model_validate({**settings.model_dump(), "max_active_tasks": 1})
    async with open_platform(one, application="tests") as platform:
        rows = await prepared(platform)
        await submit(platform, rows, Submission("rescan-index"))
        written: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("INSERT"):
                written.append(statement)

        event.listen(platform.db.engine.sync_engine, "before_cursor_execute", note)
        with pytest.raises(LimitReached):
            await submit(platform, rows, Submission("rescan-index", force=True))
        assert written == []


async def as_a_new_task(platform: Platform, rows: Rows) -> TaskId:
    return await submit(platform, rows, Submission("rescan-index"))


async def as_a_duplicate(platform: Platform, rows: Rows) -> TaskId:
    first = asyncio.create_task(as_a_new_task(platform, rows))
    second = await as_a_new_task(platform, rows)
    assert await first == second
    return second


async def with_a_key(platform: Platform, rows: Rows) -> TaskId:
    first = asyncio.create_task(submit(platform, rows, Submission("rescan-index"), key="k"))
    second = await submit(platform, rows, Submission("rescan-index"), key="k")
    assert await first == second
    return second


async def retried(platform: Platform, rows: Rows) -> TaskId:
    task_id = await as_a_new_task(platform, rows)
    owner = Caller(rows.user_id, "owner")
    await platform.tasks.delete(owner, "acme", "acme", task_id)
    await platform.retries.retry(owner, "acme", "acme", task_id)
    return task_id


@pytest.mark.timeout(300)
async def test_a_returned_task_survives_a_crash_of_postgres(settings: Settings, tmp_path: Path) -> None:
    ways: tuple[Callable[[Platform, Rows], Awaitable[TaskId]], ...] = (
        as_a_new_task,
        as_a_duplicate,
        with_a_key,
        retried,
    )
    with OwnedFolder(tmp_path / "postgres") as folder:
        # The WAL writer is slow, so that an asynchronous commit isn't flushed by itself.
        postgres = EmbeddedPostgres(folder, options=("wal_writer_delay=10s", "fsync=off"))
        postgres.start()
        await make_template(postgres.url)
        try:
            for way in ways:
                async with fresh_database(postgres.url) as url:
                    own = Settings.model_validate({**settings.model_dump(), "database_url": url})
                    async with open_platform(own, application="tests") as platform:
                        task_id = await way(platform, await prepared(platform))
                        await asyncio.to_thread(postgres.kill)
                    await asyncio.to_thread(postgres.start)
                    async with open_platform(own, application="tests") as platform:
                        async with platform.db.read() as connection:
                            found = await connection.execute(select(Task.state).where(Task.id == task_id))
                        assert found.scalars().all() in (["Created"], ["Enqueued"])
        finally:
            postgres.stop()
            folder.discard()

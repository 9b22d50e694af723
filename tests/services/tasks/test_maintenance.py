"""Maintenance jobs: what they remove, that they can be interrupted, and that two workers run them once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update
from structlog.testing import capture_logs
from tests.support.databases import wait_for_lock
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.storage import seen_unnamed

from aerotask.blobs.local import LocalBlobs
from aerotask.db import locks
from aerotask.db.clock import db_now
from aerotask.db.locks import LockSpace
from aerotask.db.models import Artifact, AuditEvent, Derivative, IdempotencyKey, LoginAttempts, Task
from aerotask.dispatch.arq import QUEUE, ArqDispatcher
from aerotask.domain.access import Caller, LinkScope
from aerotask.domain.ids import LinkId, TaskId, UploadId, new_id
from aerotask.domain.settings import LogLimits
from aerotask.services.tasks.maintenance import MaintenanceJob, MaintenanceService
from aerotask.services.tasks.work_dirs import work_folder
from aerotask.store.datasets import datasets, derivatives, entry_writes, links, uploads
from aerotask.store.datasets.derivatives import NewDerivative
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.queue import leases
from aerotask.store.queue.claims import TaskInputRow
from aerotask.store.queue.clear import TASKS_PER_TRANSACTION
from aerotask.store.queue.leases import NewArtifact, Report, Success
from aerotask.store.tasks import submit
from aerotask.wiring import Platform

DAY_S = 24 * 3600
LONG_AGO_S = 2 * 3600  # twice the grace time


class Killed(BaseException):
    """Represents a SIGKILL at this point."""


class DyingBlobs(LocalBlobs):
    """The blob store of a process that dies before it removes its file number `survives` + 1."""

    survives = 1

    async def remove(self, key: str) -> bool:
        if self.survives == 0:
            raise Killed
        self.survives -= 1
        return await super().remove(key)


@dataclass
class Yard:
    """A platform with rows and blobs for maintenance."""

    platform: Platform
    rows: Rows
    root: Path
    worker: MaintenanceService = field(init=False)

    def __post_init__(self) -> None:
        self.worker = self.platform.maintenance

    @property
    def dying_worker(self) -> MaintenanceService:
        return replace(self.worker, blobs=DyingBlobs(self.root))

    @property
    def worker_on_short_disk(self) -> MaintenanceService:
        return replace(self.worker, blobs=LocalBlobs(self.root, min_free_bytes=1024**6))

    async def blob(self, *, age_s: float = LONG_AGO_S) -> str:
        async def content() -> AsyncIterator[bytes]:
            yield b"content"

        key = (await self.platform.blobs.put(content(), limit_bytes=100)).key
        await seen_unnamed(self.rows.db, [key], ago_s=age_s)
        return key

    async def derivative(self, content_sha256: str, *, age_s: float = LONG_AGO_S) -> str:
        """The blob of a derivative of some content."""
        key = await self.blob()
        async with self.rows.db.begin() as connection:
            made = NewDerivative(
                dataset_id=self.rows.dataset_id,
                source_key=content_sha256,
                kind="cog",
                content_sha256=content_sha256,
                builder="1",
                blob_key=key,
                size_bytes=7,
                sha256="d" * 64,
                properties={},
            )
            await derivatives.put(connection, [made])
            aged = update(Derivative).where(Derivative.blob_key == key)
            await connection.execute(aged.values(created_at=db_now(plus_s=-age_s)))
        return key

    def file(self, key: str) -> Path:
        return self.root / "blobs" / key[-2:] / key

    def files(self) -> set[str]:
        return {file.name for file in (self.root / "blobs").rglob("*") if file.is_file()}

    async def entry(self, path: str, key: str) -> None:
        async with self.rows.db.begin() as connection:
            await entry_writes.put_file(
                connection, self.rows.dataset_id, path, EntryContent(key, "00ff", 7, "generic")
            )

    async def forget_entry(self, path: str) -> None:
        async with self.rows.db.begin() as connection:
            await entry_writes.remove_within(connection, self.rows.dataset_id, path)

    async def succeeded(self, *keys: str, ttl_s: float = 60) -> TaskId:
        """A succeeded task with artifacts of these blobs."""
        await self.rows.task()
        task = await self.rows.claimed()
        async with self.rows.db.begin() as connection:
            await leases.finish(
                connection,
                task.lease,
                Success(
                    artifacts=[
                        NewArtifact(f"{n}", "text/plain", key, 7, "00", ttl_s) for n, key in enumerate(keys)
                    ]
                ),
                Report(0, ("done",)),
                log_limits=LogLimits(10, 1000),
                actor="tests",
            )
        return task.lease.task_id

    async def count(self, table: Any) -> int:
        async with self.rows.db.read() as connection:
            return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


@pytest.fixture
async def yard(platform: Platform, tmp_path: Path) -> Yard:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    return Yard(platform, rows, tmp_path / "storage")


async def ended_long_ago(yard: Yard, *task_ids: TaskId) -> None:
    async with yard.rows.db.begin() as connection:
        long_ago = db_now(plus_s=-61 * DAY_S)
        await connection.execute(update(Task).where(Task.id.in_(task_ids)).values(finished_at=long_ago))


# Expired artifacts


async def test_expired_artifacts_are_removed_with_their_files_and_others_stay(yard: Yard) -> None:
    stays, goes = await yard.blob(), await yard.blob()
    await yard.succeeded(stays)
    await yard.succeeded(goes, ttl_s=-1)
    with capture_logs() as log:
        assert await yard.worker.remove_expired_artifacts() == 1
        assert await yard.worker.remove_expired_artifacts() == 0
    assert [entry for entry in log if entry["event"] == "sweep.done"] == [
        {"event": "sweep.done", "log_level": "info", "sweep": "artifacts", "removed": 1}
    ]
    assert yard.files() == {stays}


async def test_a_crash_while_removing_expired_files_leaves_orphans_that_are_removed_later(yard: Yard) -> None:
    stays = await yard.blob()
    await yard.succeeded(stays)
    await yard.succeeded(*[await yard.blob() for _ in range(3)], ttl_s=-1)
    with pytest.raises(Killed):
        await yard.dying_worker.remove_expired_artifacts()
    assert await yard.count(Artifact) == 1
    assert len(yard.files()) == 3
    assert await yard.worker.remove_expired_artifacts() == 0
    assert await yard.worker.remove_orphans() == 2
    assert yard.files() == {stays}


# Old rows


async def test_old_tasks_are_removed_with_artifacts_and_files(yard: Yard) -> None:
    recent, old = await yard.succeeded(await yard.blob()), await yard.succeeded(await yard.blob())
    waiting = await yard.rows.task()
    await ended_long_ago(yard, old)
    assert [await yard.worker.remove_old_tasks() for _ in range(2)] == [1, 0]
    async with yard.rows.db.read() as connection:
        assert set((await connection.execute(select(Task.id))).scalars()) == {recent, waiting}
    assert len(yard.files()) == 1


async def test_a_crash_while_removing_files_of_old_tasks_leaves_orphans_that_are_removed_later(
    yard: Yard,
) -> None:
    await ended_long_ago(yard, *[await yard.succeeded(await yard.blob()) for _ in range(3)])
    with pytest.raises(Killed):
        await yard.dying_worker.remove_old_tasks()
    assert (await yard.count(Task), len(yard.files())) == (0, 2)
    assert (await yard.worker.remove_old_tasks(), await yard.worker.remove_orphans()) == (0, 2)
    assert yard.files() == set()


async def test_old_tasks_are_removed_a_few_per_transaction(yard: Yard) -> None:
    await ended_long_ago(
        yard, *[await yard.succeeded(await yard.blob()) for _ in range(TASKS_PER_TRANSACTION + 3)]
    )
    with pytest.raises(Killed):
        await yard.dying_worker.remove_old_tasks()
    assert await yard.count(Task) == 3
    assert await yard.worker.remove_old_tasks() == 3


async def test_an_old_task_that_is_retried_meanwhile_stays(yard: Yard) -> None:
    task_id = await yard.succeeded()
    await ended_long_ago(yard, task_id)
    async with yard.rows.db.begin() as connection:
        again = update(Task).where(Task.id == task_id).values(state="Enqueued", finished_at=None)
        await connection.execute(again)
        sweeping = asyncio.create_task(yard.worker.remove_old_tasks())
        await wait_for_lock(yard.rows.db, "transactionid")
    assert await sweeping == 0
    assert await yard.count(Task) == 1


# Orphans


async def test_old_unreferenced_files_are_removed_and_referenced_and_young_ones_stay(yard: Yard) -> None:
    young, entry, artifact, read, orphan = [
        await yard.blob(age_s=0),
        *[await yard.blob() for _ in range(4)],
    ]
    await yard.entry("a", entry)
    await yard.entry("b", read)
    await yard.succeeded(artifact)
    await yard.rows.task(inputs=(TaskInputRow("b", "00ff", read),))
    await yard.forget_entry("b")
    with capture_logs() as log:
        assert [await yard.worker.remove_orphans() for _ in range(2)] == [1, 0]
    assert [entry for entry in log if entry["event"] == "sweep.done"] == [
        {"event": "sweep.done", "log_level": "info", "sweep": "orphans", "blobs": 1, "folders": 0}
    ]
    assert yard.files() == {young, entry, artifact, read}
    assert orphan not in yard.files()


async def test_a_crash_while_removing_orphans_leaves_the_others_for_later(yard: Yard) -> None:
    for _ in range(4):
        await yard.blob()
    with pytest.raises(Killed):
        await yard.dying_worker.remove_orphans()
    assert len(yard.files()) == 3
    assert await yard.worker.remove_orphans() == 3


async def test_a_file_that_a_submit_is_about_to_reference_stays(yard: Yard) -> None:
    key = await yard.blob()
    await yard.entry("a", key)
    new = yard.rows.new_task(inputs=(TaskInputRow("a", "00ff", key),))
    async with yard.rows.db.begin() as connection:
        assert await submit.add(connection, new, actor="tests") == set()
        await yard.forget_entry("a")  # committed at once: other transactions see no reference to the blob now
        sweeping = asyncio.create_task(yard.worker.remove_orphans())
        await wait_for_lock(yard.rows.db, "advisory")
    assert await sweeping == 0
    assert yard.files() == {key}


async def test_a_submit_does_not_reference_a_file_without_a_reference(yard: Yard) -> None:
    key = await yard.blob()
    new = yard.rows.new_task(inputs=(TaskInputRow("a", "00ff", key),))
    async with yard.rows.db.engine.connect() as connection:
        assert await submit.add(connection, new, actor="tests") == {key}


async def test_abandoned_work_folders_are_removed_and_others_stay(yard: Yard) -> None:
    work = yard.platform.blobs.work_root
    for name in ("left", "used"):
        (work / name / "in").mkdir(parents=True)
    then = time.time() - LONG_AGO_S
    os.utime(work / "left", (then, then))
    assert [await yard.worker.remove_orphans() for _ in range(2)] == [1, 0]
    assert [folder.name for folder in work.iterdir()] == ["used"]


async def test_the_work_folder_of_a_running_attempt_stays_however_old_it_is(yard: Yard) -> None:
    await yard.rows.task()
    lease = (await yard.rows.claimed()).lease
    work, then = yard.platform.blobs.work_root, time.time() - LONG_AGO_S
    running, before = (work_folder(work, lease.task_id, lease.attempt - back) for back in (0, 1))
    for folder in (running, before):
        folder.mkdir()
        os.utime(folder, (then, then))
    assert await yard.worker.remove_orphans() == 1
    assert list(work.iterdir()) == [running]


# Missed wakeups


async def overdue(yard: Yard, count: int) -> list[TaskId]:
    task_ids = [await yard.rows.task() for _ in range(count)]
    async with yard.rows.db.begin() as connection:
        await connection.execute(update(Task).where(Task.id.in_(task_ids)).values(due_at=db_now(plus_s=-60)))
    return task_ids


async def queued(yard: Yard) -> set[str]:
    dispatcher = yard.platform.dispatcher
    assert isinstance(dispatcher, ArqDispatcher)
    return {job.decode() for job in await dispatcher._redis.zrange(QUEUE, 0, -1)}


async def test_missed_wakeups_are_sent_once(yard: Yard) -> None:
    lost = await overdue(yard, 3)
    fresh = await yard.rows.task()
    with capture_logs() as log:
        assert [await yard.worker.send_missed_wakeups() for _ in range(2)] == [3, 0]
    assert log == [{"event": "sweep.done", "log_level": "info", "sweep": "unsent_hints", "sent": 3}]
    hints = await queued(yard)
    assert {f"{task_id}:0" for task_id in lost} <= hints
    assert f"{fresh}:0" not in hints
    async with yard.rows.db.read() as connection:
        states = (await connection.execute(select(Task.id, Task.state))).all()
    assert {row.id: row.state for row in states} == {
        **dict.fromkeys(lost, "Enqueued"),
        fresh: "Created",
    }


async def test_a_crash_between_wakeup_and_mark_sends_it_again_and_duplicates_nothing(yard: Yard) -> None:
    [lost] = await overdue(yard, 1)
    async with yard.rows.db.begin() as connection:
        await connection.execute(select(Task.id).where(Task.id == lost).with_for_update())
        sweeping = asyncio.create_task(yard.worker.send_missed_wakeups())
        await wait_for_lock(yard.rows.db, "transactionid")  # the wakeup is sent, the task is not yet marked
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    assert await yard.worker.send_missed_wakeups() == 1
    assert [hint for hint in await queued(yard) if hint.startswith(str(lost))] == [f"{lost}:0"]


async def test_nothing_is_marked_while_the_queue_is_unreachable(yard: Yard) -> None:
    await overdue(yard, 1)
    away = ArqDispatcher("redis://127.0.0.1:1/0")
    with pytest.raises(OSError, match="Redis"):
        await replace(yard.worker, dispatcher=away).send_missed_wakeups()
    await away.close()
    assert await yard.worker.send_missed_wakeups() == 1


# Idempotency keys


async def test_expired_idempotency_keys_are_removed(yard: Yard) -> None:
    async with yard.rows.db.begin() as connection:
        for key, age_s in (("old", DAY_S + 60), ("recent", DAY_S - 60)):
            values = {"caller": "me", "key": key, "fingerprint": b"", "answer": {}}
            await connection.execute(
                insert(IdempotencyKey).values(**values, created_at=db_now(plus_s=-age_s))
            )
    assert [await yard.worker.remove_old_idempotency_keys() for _ in range(2)] == [1, 0]
    async with yard.rows.db.read() as connection:
        assert (await connection.execute(select(IdempotencyKey.key))).scalars().all() == ["recent"]


async def many_idempotency_keys(yard: Yard, count: int) -> None:
    async with yard.rows.db.begin() as connection:
        rows = [{"caller": "me", "key": str(n), "fingerprint": b"", "answer": {}} for n in range(count)]
        await connection.execute(insert(IdempotencyKey).values(created_at=db_now(plus_s=-2 * DAY_S)), rows)


async def old_audit_event(yard: Yard) -> None:
    async with yard.rows.db.begin() as connection:
        values = {"id": new_id(), "actor": "owner", "action": "user.signed-in", "target": "owner"}
        await connection.execute(insert(AuditEvent).values(**values, at=db_now(plus_s=-366 * DAY_S)))


async def bygone_sign_in_attempts(yard: Yard, bucket: str) -> None:
    async with yard.rows.db.begin() as connection:
        values = {"bucket": bucket, "failures": 1, "window_ends_at": db_now(plus_s=-1)}
        await connection.execute(insert(LoginAttempts).values(**values))


async def expired_link(yard: Yard) -> None:
    async with yard.rows.db.begin() as connection:
        await links.add(
            connection,
            link_id=LinkId(new_id()),
            digest=new_id().bytes,
            dataset_id=yard.rows.dataset_id,
            maker=Caller(yard.rows.user_id, "owner"),
            task_id=None,
            entry_id=None,
            path="",
            scope=LinkScope.VIEW,
            note="",
            ttl_s=-1,
        )


async def deleted_dataset(yard: Yard, slug: str) -> None:
    dataset = await add_dataset(yard.rows.db, yard.rows.user_id, slug)
    async with yard.rows.db.begin() as connection:
        await datasets.delete_dataset(connection, dataset.dataset_id)


async def expired_upload(yard: Yard) -> None:
    async with yard.rows.db.begin() as connection:
        await uploads.add(
            connection,
            upload_id=UploadId(new_id()),
            dataset_id=yard.rows.dataset_id,
            user_id=yard.rows.user_id,
            path="a",
            size_bytes=1,
            client_metadata="",
            ttl_s=-1,
        )


# Derivatives


async def test_derivatives_stay_while_an_entry_has_the_content(yard: Yard) -> None:
    content, other = "a" * 64, "b" * 64
    kept, unused, young = (
        await yard.derivative(content),
        await yard.derivative(other),
        await yard.derivative("c" * 64, age_s=60),
    )
    blob = await yard.blob()
    async with yard.rows.db.begin() as connection:
        put = entry_writes.put_file(
            connection, yard.rows.dataset_id, "x.tif", EntryContent(blob, content, 7, "image")
        )
        await put
    assert await yard.worker.remove_orphans() == 0
    assert await yard.worker.remove_unused_derivatives() == 1
    assert yard.files() == {blob, kept, young}
    assert unused not in yard.files()
    async with yard.rows.db.begin() as connection:
        await entry_writes.remove_within(connection, yard.rows.dataset_id, "x.tif")
    assert await yard.worker.remove_unused_derivatives() == 1
    assert kept not in yard.files()


async def test_an_interrupted_removal_of_derivatives_leaves_orphans_and_no_row_without_a_file(
    yard: Yard,
) -> None:
    for number in range(3):
        await yard.derivative(f"{number}" * 64)
    with pytest.raises(Killed):
        await yard.dying_worker.remove_unused_derivatives()
    async with yard.rows.db.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(Derivative))).scalar_one() == 0
    assert await yard.worker.remove_orphans() == 2
    assert yard.files() == set()


# Two workers, and other servers' clocks


@pytest.mark.parametrize("sweep", list(MaintenanceJob))
async def test_a_job_runs_once_in_two_concurrent_workers(yard: Yard, sweep: MaintenanceJob) -> None:
    await many_idempotency_keys(yard, 1100)
    await yard.succeeded(*[await yard.blob() for _ in range(5)], ttl_s=-1)
    await ended_long_ago(yard, *[await yard.succeeded() for _ in range(5)])
    for _ in range(5):
        await yard.blob()
    await overdue(yard, 5)
    for number in range(5):
        await deleted_dataset(yard, f"deleted-{number}")
        await expired_upload(yard)
        await expired_link(yard)
        await old_audit_event(yard)
        await bygone_sign_in_attempts(yard, f"account:{number}")
        await yard.derivative(f"{number}" * 64)
    if sweep is MaintenanceJob.SPACE:  # these would be orphans, too
        for number in range(5):
            await yard.entry(f"{number}", await yard.blob())
            await yard.forget_entry(f"{number}")
    run = {
        MaintenanceJob.ARTIFACTS: yard.worker.remove_expired_artifacts,
        MaintenanceJob.OLD_TASKS: yard.worker.remove_old_tasks,
        MaintenanceJob.ORPHANS: yard.worker.remove_orphans,
        MaintenanceJob.UNSENT_HINTS: yard.worker.send_missed_wakeups,
        MaintenanceJob.IDEMPOTENCY_KEYS: yard.worker.remove_old_idempotency_keys,
        MaintenanceJob.AUDIT_EVENTS: yard.worker.remove_old_audit_events,
        MaintenanceJob.SIGN_IN_ATTEMPTS: yard.worker.remove_old_login_attempts,
        MaintenanceJob.UPLOADS: yard.worker.remove_expired_uploads,
        MaintenanceJob.DELETED: yard.worker.remove_deleted,
        MaintenanceJob.UNUSED_DERIVATIVES: yard.worker.remove_unused_derivatives,
        MaintenanceJob.LINKS: yard.worker.remove_expired_links,
        MaintenanceJob.SPACE: yard.worker_on_short_disk.free_space,
    }[sweep]
    counts = await asyncio.gather(*(run() for _ in range(4)))
    with_derivatives = 10
    expected = {MaintenanceJob.IDEMPOTENCY_KEYS: 1100, MaintenanceJob.SPACE: with_derivatives}
    assert sum(counts) == expected.get(sweep, 5)


async def test_a_job_that_runs_elsewhere_is_skipped(yard: Yard) -> None:
    await yard.blob()
    async with yard.rows.db.begin() as other:
        assert await locks.try_take(other, LockSpace.SWEEP, MaintenanceJob.ORPHANS)
        assert await yard.worker.remove_orphans() == 0
    assert await yard.worker.remove_orphans() == 1


async def test_lost_leases_are_counted_in_the_log(yard: Yard) -> None:
    for _ in range(2):
        await yard.rows.task()
        await yard.rows.claimed(worker_no=9, ttl_s=-1)
    async with yard.rows.db.begin() as connection:
        attempted_once = select(Task.id).limit(1).scalar_subquery()
        await connection.execute(update(Task).where(Task.id == attempted_once).values(failed_attempts=1))
    with capture_logs() as log:
        found = await asyncio.gather(*(yard.worker.recover_lost() for _ in range(3)))
    assert sum(found) == 1
    sweeps = [entry for entry in log if entry["event"] == "sweep.done"]
    assert {key: sum(entry[key] for entry in sweeps) for key in ("again", "later", "failed")} == {
        "again": 1,
        "later": 0,
        "failed": 1,
    }

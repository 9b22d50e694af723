import asyncio
from dataclasses import dataclass
from random import Random

from sqlalchemy import insert, select, update
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.clock import db_now
from aerotask.db.engine import Database
from aerotask.db.models import Task, TaskInput
from aerotask.domain.ids import DatasetId, OrgId, TaskId, UserId
from aerotask.store.queue import claims
from aerotask.store.tasks.tasks import find


async def test_a_claim_takes_the_oldest_task_and_counts_the_attempt(rows: Rows) -> None:
    first = await rows.task()
    await rows.task()

    task = await rows.claimed(worker_no=7)

    assert task.lease.task_id == first
    assert task.lease.attempt == 1


async def test_a_claimed_task_is_not_claimed_again(rows: Rows) -> None:
    await rows.task()
    await rows.claimed()
    assert await rows.claim() is None


async def test_a_task_is_not_claimed_before_it_is_due(rows: Rows) -> None:
    task_id = await rows.task()
    async with rows.db.begin() as connection:
        await connection.execute(update(Task).where(Task.id == task_id).values(due_at=db_now(plus_s=60)))
    assert await rows.claim() is None
    async with rows.db.read() as connection:
        assert not await claims.any_due(connection)


async def test_ten_workers_at_once_claim_ten_different_tasks(rows: Rows) -> None:
    expected = {await rows.task() for _ in range(10)}
    claimed = await asyncio.gather(*(rows.claimed(worker_no=number) for number in range(10)))
    assert {task.lease.task_id for task in claimed} == expected


async def test_a_user_at_the_concurrency_limit_gets_no_further_claim(rows: Rows) -> None:
    for _ in range(5):
        await rows.task()
    for _ in range(3):
        await rows.claimed(max_running_per_user=3)
    assert await rows.claim(max_running_per_user=3) is None


async def test_racing_claims_never_exceed_the_concurrency_limit(rows: Rows) -> None:
    for _ in range(20):
        await rows.task()
    claimed = await asyncio.gather(*(rows.claim(max_running_per_user=3) for _ in range(20)))
    assert sum(task is not None for task in claimed) == 3


async def test_the_organization_that_runs_least_comes_first(database: Database, rows: Rows) -> None:
    small = await add_dataset(database, await add_user(database, "small"), "small")
    for _ in range(3):
        await rows.task()
    waiting = await small.task()
    await rows.claimed()

    assert (await rows.claimed()).lease.task_id == waiting


async def test_within_an_organization_the_user_who_runs_least_comes_first(
    database: Database, rows: Rows
) -> None:
    busy, idle = rows.user_id, await add_user(database, "idle")
    await rows.task(user_id=busy)
    await rows.claimed()
    for _ in range(2):
        await rows.task(user_id=busy)
    waiting = await rows.task(user_id=idle)

    assert (await rows.claimed()).lease.task_id == waiting


async def test_the_organization_counts_before_the_user_and_the_user_before_the_age(
    database: Database, rows: Rows
) -> None:
    small = await add_dataset(database, await add_user(database, "small"), "small")
    idle = await add_user(database, "idle")
    await rows.task()
    await rows.claimed()
    oldest = await rows.task()
    newer = await rows.task()
    of_idle_user = await rows.task(user_id=idle)
    # Their submitter already runs a task elsewhere, but their organization runs none, which counts first.
    of_idle_org = await small.task(user_id=rows.user_id)

    order = [(await rows.claimed()).lease.task_id for _ in range(4)]

    # Now both organizations run one, so the idle user's task comes first; the others follow by age.
    assert order == [of_idle_org, of_idle_user, oldest, newer]


async def test_two_tasks_that_change_the_same_paths_do_not_run_at_once(rows: Rows) -> None:
    folder = await rows.task(writes=("out",))
    await rows.task(writes=("out/a.tif",))
    elsewhere = await rows.task(writes=("outside/a.tif",))

    assert (await rows.claimed()).lease.task_id == folder
    assert (await rows.claimed()).lease.task_id == elsewhere
    assert await rows.claim() is None


async def test_a_task_that_changes_the_whole_dataset_waits_for_all_that_change_it(rows: Rows) -> None:
    await rows.task(writes=("a",))
    await rows.task(writes=("",))
    await rows.claimed()
    assert await rows.claim() is None


async def test_the_same_paths_of_another_dataset_are_no_conflict(database: Database, rows: Rows) -> None:
    other = await add_dataset(database, rows.user_id, "other")
    await rows.task(writes=("a",))
    await other.task(writes=("a",))
    await rows.claimed()
    assert await rows.claim() is not None


async def test_the_history_names_the_worker_that_claimed_the_task(rows: Rows) -> None:
    task_id = await rows.task()
    await rows.claimed(worker_no=7)
    async with rows.db.read() as connection:
        task = await find(connection, rows.dataset_id, task_id)
    assert task is not None
    assert [(e["from"], e["to"], e["by"]) for e in task.history] == [
        (None, "Created", "tests"),
        ("Created", "Processing", "worker 7"),
    ]


async def test_tasks_claimed_together_each_count_for_the_next(database: Database, rows: Rows) -> None:
    small = await add_dataset(database, await add_user(database, "small"), "small")
    first, second, third = [await rows.task() for _ in range(3)]
    of_small = await small.task()

    claimed = await rows.claim_many(3)
    rest = await rows.claim_many(3)

    assert [task.lease.task_id for task in claimed] == [first, of_small, second]
    assert [task.lease.task_id for task in rest] == [third]


async def test_tasks_claimed_together_respect_the_concurrency_limit(rows: Rows) -> None:
    for _ in range(5):
        await rows.task()
    assert len(await rows.claim_many(5, max_running_per_user=3)) == 3


async def test_a_locked_task_is_skipped_for_the_next_of_its_submitter(rows: Rows) -> None:
    oldest, next_one = await rows.task(), await rows.task()
    async with rows.db.begin() as busy:
        await busy.execute(select(Task.id).where(Task.id == oldest).with_for_update())
        assert (await rows.claimed()).lease.task_id == next_one
        assert await rows.claim() is None
    assert (await rows.claimed()).lease.task_id == oldest


async def test_all_anonymous_tasks_count_as_one_users(database: Database, rows: Rows) -> None:
    other = await add_dataset(database, rows.user_id, "other")
    for dataset in (rows, other, rows):
        await dataset.task(user_id=None)
    assert len(await rows.claim_many(3, max_running_per_user=2)) == 2


async def test_the_first_task_of_a_submitter_that_is_not_due_hides_no_other_submitter(
    database: Database, rows: Rows
) -> None:
    later = await rows.task()
    async with database.begin() as connection:
        await connection.execute(update(Task).where(Task.id == later).values(due_at=db_now(plus_s=60)))
    due = await rows.task(user_id=await add_user(database, "other"))
    assert [task.lease.task_id for task in await rows.claim_many(3)] == [due]


async def test_a_claim_reads_no_inputs_and_has_the_callback_url(rows: Rows) -> None:
    task_id = await rows.task(callback_url="https://hooks.example/")
    async with rows.db.begin() as connection:
        columns = {"task_id": task_id, "path": "a.tif", "sha256": "aa", "blob_key": "blob-1"}
        await connection.execute(insert(TaskInput).values(columns))
    [task] = await rows.claim_many(1)
    assert (task.inputs, task.callback_url) == ((), "https://hooks.example/")
    async with rows.db.read() as connection:
        task = await claims.with_inputs(connection, task)
    assert task.inputs == (claims.TaskInputRow("a.tif", "aa", "blob-1"),)


@dataclass(frozen=True)
class Waiting:
    """A task of the model, ordered by age."""

    id: TaskId
    org: OrgId
    user: UserId | None
    dataset: DatasetId
    writes: tuple[str, ...]


def by_the_rule(
    waiting: list[Waiting], running: list[Waiting], *, max_running_per_user: int
) -> Waiting | None:
    """The plain rule: no user over the limit, no overlapping paths; the idlest organization, its idlest user, age."""

    def of_org(task: Waiting) -> int:
        return sum(other.org == task.org for other in running)

    def of_user(task: Waiting) -> int:
        return sum(other.user == task.user for other in running)

    def clashes(task: Waiting) -> bool:
        return any(
            mine == theirs
            or "" in {mine, theirs}
            or mine.startswith(f"{theirs}/")
            or theirs.startswith(f"{mine}/")
            for other in running
            if other.dataset == task.dataset
            for mine in other.writes
            for theirs in task.writes
        )

    may = [task for task in waiting if of_user(task) < max_running_per_user and not clashes(task)]
    return min(may, key=lambda task: (of_org(task), of_user(task), waiting.index(task)), default=None)


async def test_claims_follow_the_plain_rule(database: Database, rows: Rows) -> None:
    chance = Random(2026)
    users = [rows.user_id, await add_user(database, "second"), await add_user(database, "third"), None]
    datasets = [rows, *[await add_dataset(database, rows.user_id, slug) for slug in ("b", "c", "d")]]
    changed = [(), (), ("",), ("a",), ("a/b",), ("a/bc", "d"), ("ab",)]
    waiting: list[Waiting] = []
    for _ in range(60):
        at = chance.choice(datasets)
        user, writes = chance.choice(users), chance.choice(changed)
        task_id = await at.task(user_id=user, writes=writes)
        waiting.append(Waiting(task_id, at.org_id, user, at.dataset_id, writes))

    running: list[Waiting] = []
    while (expected := by_the_rule(waiting, running, max_running_per_user=6)) is not None:
        assert (await rows.claimed(max_running_per_user=6)).lease.task_id == expected.id
        waiting.remove(expected)
        running.append(expected)
    assert await rows.claim(max_running_per_user=6) is None
    assert len(running) > 15

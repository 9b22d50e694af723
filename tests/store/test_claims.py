import asyncio

from sqlalchemy import update
from tests.store.conftest import Rows, add_dataset, add_user

from aerotask.store import claims
from aerotask.store.clock import db_now
from aerotask.store.engine import Database
from aerotask.store.models import Task
from aerotask.store.tasks import find


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


async def test_a_task_waits_for_its_time(rows: Rows) -> None:
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


async def test_a_users_running_limit_holds_their_tasks_back(rows: Rows) -> None:
    for _ in range(5):
        await rows.task()
    for _ in range(3):
        await rows.claimed(running_per_user=3)
    assert await rows.claim(running_per_user=3) is None


async def test_racing_claims_never_exceed_the_running_limit(rows: Rows) -> None:
    for _ in range(20):
        await rows.task()
    claimed = await asyncio.gather(*(rows.claim(running_per_user=3) for _ in range(20)))
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
    # Their submitter runs one elsewhere already, which counts less than that their organization runs none.
    of_idle_org = await small.task(user_id=rows.user_id)

    order = [(await rows.claimed()).lease.task_id for _ in range(4)]

    # Then both organizations run one, and the idle user's task is the first; the others go by age.
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


async def test_the_history_says_who_claimed_it(rows: Rows) -> None:
    task_id = await rows.task()
    await rows.claimed(worker_no=7)
    async with rows.db.read() as connection:
        task = await find(connection, rows.dataset_id, task_id)
    assert task is not None
    assert [(e["from"], e["to"], e["by"]) for e in task.history] == [
        (None, "Created", "tests"),
        ("Created", "Processing", "worker 7"),
    ]

"""Query plans of the hot queries with a million tasks: none may scan the table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.store.plans import filled_database, rows_read

from aerotask.db.engine import Database, open_database
from aerotask.domain.ids import DatasetId, LeaseToken, OrgId, TaskId, UserId
from aerotask.domain.settings import LogLimits, Quotas
from aerotask.domain.states import TaskState
from aerotask.stack.servers import LocalServers
from aerotask.store.queue import admission, claims, leases, logs, recovery, retention
from aerotask.store.queue.admission import AdmissionLimits
from aerotask.store.queue.leases import Lease, Report
from aerotask.store.tasks import quota, request_context, submit, tasks
from aerotask.store.tasks.quota import QuotaScope
from aerotask.store.tasks.submit import DedupMatch
from aerotask.store.tasks.tasks import TaskFilter

# The rows are inserted once, by the test process that gets this group.
pytestmark = [pytest.mark.xdist_group("a million tasks"), pytest.mark.timeout(600)]

TASKS = 1_000_000
MOST_ROWS = 2000

# 20 organizations with 10 datasets each; one of 1,000 tasks waits, and one of 50,000 runs.
FILL = """
    INSERT INTO users (id, user_name, password_hash)
        SELECT ('01000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'user-' || n, ''
        FROM generate_series(0, 99) n;
    INSERT INTO organizations (id, slug, name, owner_id)
        SELECT ('02000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'org-' || n, '',
               ('01000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
        FROM generate_series(0, 19) n;
    INSERT INTO datasets (id, org_id, slug, name, visibility)
        SELECT ('03000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
               ('02000000-0000-7000-8000-' || lpad(to_hex(n / 10), 12, '0'))::uuid, 'ds-' || n, '', 'private'
        FROM generate_series(0, 199) n;
    INSERT INTO tasks (id, org_id, dataset_id, user_id, tool_id, tool_version, params, dedup_key,
                       estimated_output_bytes, memory_bytes, state, created_at, due_at, finished_at,
                       lease_token, lease_until, renewed_at, worker_no, tags)
        SELECT ('04000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
               ('02000000-0000-7000-8000-' || lpad(to_hex(n % 200 / 10), 12, '0'))::uuid,
               ('03000000-0000-7000-8000-' || lpad(to_hex(n % 200), 12, '0'))::uuid,
               ('01000000-0000-7000-8000-' || lpad(to_hex(n % 100), 12, '0'))::uuid,
               'nothing', '1', '{}', int4send(n), 0, 0, state, at, at,
               CASE WHEN state = 'Succeeded' THEN at END,
               CASE WHEN state = 'Processing' THEN gen_random_uuid() END,
               CASE WHEN state = 'Processing' THEN now() + interval '1 hour' END,
               CASE WHEN state = 'Processing' THEN now() END,
               CASE WHEN state = 'Processing' THEN n END,
               CASE WHEN n % 5000 = 0 THEN ARRAY['rare'] ELSE '{}' END
        FROM (SELECT n, CASE WHEN n % 50000 = 0 THEN 'Processing' WHEN n % 1000 = 0 THEN 'Enqueued'
                             ELSE 'Succeeded' END AS state,
                     now() - (:tasks - n) * interval '1 second' AS at
              FROM generate_series(0, :tasks - 1) n) made;
    INSERT INTO artifacts (task_id, file_name, media_type, blob_key, size_bytes, sha256, expires_at)
        SELECT id, 'x', 'text/plain', id::text, 1, '', finished_at + interval '72 hours'
        FROM tasks WHERE state = 'Succeeded' AND finished_at > now() - interval '1 day';
    INSERT INTO task_inputs (task_id, path, sha256, blob_key)
        SELECT task_id, 'in.tif', '', blob_key FROM artifacts;
    INSERT INTO task_log (task_id, n, line)
        SELECT task_id, n, 'line' FROM artifacts, generate_series(0, 2) n;
    INSERT INTO callbacks (id, task_id, url, body, state)
        SELECT gen_random_uuid(), task_id, 'https://example.org', '', 'delivered' FROM artifacts;
"""
ORG = OrgId(UUID("02000000-0000-7000-8000-000000000001"))
DATASET = DatasetId(UUID("03000000-0000-7000-8000-00000000000a"))
USER = UserId(UUID("01000000-0000-7000-8000-00000000000a"))
TASK = TaskId(UUID("04000000-0000-7000-8000-00000000000a"))
SCOPE = QuotaScope(ORG, USER, timedelta(days=1), frozenset({"nothing"}))
LIMITS = AdmissionLimits(Quotas(), timedelta(days=1), ["bulk-download"])
LIKE = DedupMatch(DATASET, b"x", timedelta(days=1), needs_artifact=True, active_only=False)
LEASE = Lease(TASK, LeaseToken(UUID(int=1)), 1)


@pytest.fixture(scope="module")
def million(servers: LocalServers) -> Iterator[str]:
    """The address of a database with a million tasks."""
    with filled_database(servers.postgres.url, FILL.replace(":tasks", str(TASKS))) as url:
        yield url


@pytest.fixture
async def database(million: str) -> AsyncIterator[Database]:
    opened = open_database(million, application="tests")
    yield opened
    await opened.close()


HOT: dict[str, Callable[[AsyncConnection], Awaitable[object]]] = {
    "status": lambda c: tasks.find(c, DATASET, TASK),
    "status, with caller and dataset": lambda c: request_context.load(
        c, USER, "org-1", "ds-10", task_id=TASK
    ),
    "list": lambda c: tasks.list_newest(c, TaskFilter(dataset_id=DATASET), skip=0, take=50),
    "list, tenth page": lambda c: tasks.list_newest(c, TaskFilter(dataset_id=DATASET), skip=450, take=50),
    "list of a tool": lambda c: tasks.list_newest(
        c, TaskFilter(dataset_id=DATASET, tool_id="nothing", state=TaskState.SUCCEEDED), skip=0, take=50
    ),
    "list by a rare tag": lambda c: tasks.list_newest(
        c, TaskFilter(dataset_id=DATASET, tag="rare"), skip=0, take=50
    ),
    "count of a list": lambda c: tasks.count(c, TaskFilter(dataset_id=DATASET)),
    "count by a tag": lambda c: tasks.count(c, TaskFilter(dataset_id=DATASET, tag="rare")),
    "own tasks": lambda c: tasks.list_newest(c, TaskFilter(owner_id=USER, readable_by=USER), skip=0, take=50),
    "own tasks by id": lambda c: tasks.list_newest(
        c, TaskFilter(owner_id=USER, readable_by=USER, ids=(TASK,)), skip=0, take=50
    ),
    "all tasks, newest": lambda c: tasks.list_newest(c, TaskFilter(), skip=0, take=50),
    "look before a claim": claims.any_due,
    "claim": lambda c: claims.claim_next(c, worker_no=1, ttl_s=30, max_running_per_user=3, max_count=3),
    "heartbeat": lambda c: leases.renew(c, [LeaseToken(TASK)], worker_no=50_000, ttl_s=30),
    "recovery": lambda c: recovery.recover_lost(c, max_attempts=2, quiet_s=1, settle_s=5),
    "log": lambda c: logs.read(c, TASK, since=0, take=100),
    "twin": lambda c: submit.find_duplicate(c, LIKE),
    "twin and quota": lambda c: submit.find_duplicate_and_usage(c, LIKE, SCOPE),
    "unique id": lambda c: submit.find_unique_id_owner(c, ORG, "x"),
    "quota": lambda c: quota.read_usage(c, SCOPE),
    "look before an admission": admission.any_due,
    "admission": lambda c: admission.admit_due(c, LIMITS),
    "expired artifacts": lambda c: retention.remove_expired_artifacts(c, clock_offset_s=0, max_count=500),
    "old tasks": lambda c: retention.remove_old_tasks(c, retention_days=60, clock_offset_s=0, max_count=500),
}


# These read all tasks of a dataset to count them, or all of a user to check their read access.
MORE_ROWS = {"count of a list": TASKS // 200, "own tasks": TASKS // 100}


@pytest.mark.parametrize("name", HOT)
async def test_a_hot_query_reads_little(database: Database, name: str) -> None:
    read = await rows_read(database, HOT[name])
    assert {table: rows for table, rows in read.items() if rows > MORE_ROWS.get(name, MOST_ROWS)} == {}


async def test_a_report_of_a_running_task_writes_by_index(database: Database) -> None:
    async def report(connection: AsyncConnection) -> None:
        with pytest.raises(leases.LeaseLost):
            await leases.report(connection, LEASE, Report(0, ("a",)), log_limits=LogLimits(100, 10_000))

    assert (await rows_read(database, report))["tasks"] <= 1


async def test_a_query_that_reads_everything_would_be_noticed(database: Database) -> None:
    query = text("SELECT count(*) FROM tasks WHERE tool_version = 'x'")
    assert (await rows_read(database, lambda c: c.execute(query)))["tasks"] > TASKS / 2

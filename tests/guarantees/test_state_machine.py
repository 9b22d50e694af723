"""State machine test: hypothesis runs random operations on tasks against a small model.

The store and the services are the real ones, over a real database; workers are played by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as bounds
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from tests.guarantees.invariants import history_faults
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.config import Settings
from aerotask.domain.access import Caller
from aerotask.domain.errors import Conflict, LimitReached, NotFound
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import LogLimits
from aerotask.registry import GROUP, registry_of
from aerotask.sdk import DatasetView, Plan, RunContext, Tool, ToolParams
from aerotask.services.tasks.retry import RetryService
from aerotask.services.tasks.submit import Submission, SubmitService
from aerotask.store.queue import leases, recovery
from aerotask.store.queue.claims import ClaimedTask
from aerotask.store.queue.leases import Failure, LeaseLost, NewArtifact, Report, Retry, Success
from aerotask.wiring import Platform, open_platform

ACTIVE_AT_MOST = 4
MAX_ATTEMPTS = 2
TTL_S = 3600.0
KEEP = LogLimits(lines=1000, total_bytes=10**6)
BOUNDS = bounds(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
ENDED = frozenset({"Succeeded", "Failed", "Deleted"})
WAITING = frozenset({"Created", "Enqueued", "Scheduled"})


class MakerParams(ToolParams):
    """Params that distinguish tasks."""

    label: str


class Maker(Tool[MakerParams]):
    """Creates an artifact; it never runs, since the test acts as the worker."""

    id, version, title = "maker", "1", "Make something"
    params = MakerParams
    artifact_suffix = ".txt"

    def plan(self, params: MakerParams, dataset: DatasetView) -> Plan:
        return Plan(estimated_output_bytes=0, memory_bytes=0)

    def run(self, params: MakerParams, ctx: RunContext) -> None:
        raise NotImplementedError


@dataclass(slots=True)
class Expected:
    """A task in the model."""

    label: int
    state: str = "Waiting"
    attempt: int = 0
    failed_attempts: int = 0
    lines: list[str] = field(default_factory=list)
    artifact: str | None = None
    """The key of its blob."""


@dataclass(slots=True)
class Holder:
    """A worker that claimed a task; its lease may be lost since."""

    claimed: ClaimedTask
    written: int = 0
    """The number of written lines of this attempt."""


class Tasks(RuleBasedStateMachine):
    """The system under test and the model side by side."""

    runner: asyncio.Runner
    platform: Platform
    submits: SubmitService
    reruns: RetryService
    rows: Rows

    holders: Bundle[Holder] = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.caller = Caller(user_id=self.rows.user_id, user_name="owner", is_admin=True)
        self.model: dict[TaskId, Expected] = {}

    def teardown(self) -> None:
        """Empty the database and the storage for the next example."""
        self.runner.run(self._empty())

    async def _empty(self) -> None:
        async with self.platform.db.begin() as connection:
            await connection.execute(text("DELETE FROM tasks"))
        for key in self._stored_keys():
            await self.platform.blobs.remove(key)

    # Clients

    @rule(label=st.integers(0, 3))
    def submit(self, label: int) -> None:
        """Submit one of four tasks; an active or succeeded duplicate is returned instead of a new one."""
        submission = Submission(tool_id="maker", params={"label": str(label)})
        twins = {key for key, task in self.model.items() if task.label == label and self._answers(task)}
        asked = self.submits.submit(self.caller, "acme", "acme", submission)
        if not twins and self._active() == ACTIVE_AT_MOST:
            self._asked(asked, LimitReached)
            return
        submitted = self._asked(asked, None)
        assert submitted.deduplicated == bool(twins)
        if twins:
            assert submitted.task_id in twins
        else:
            self.model[submitted.task_id] = Expected(label)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Delete a task in any state; a cleared one gets 404."""
        task_id = data.draw(st.sampled_from([*self.model, TaskId(self.rows.dataset_id)]), label="task")
        asked = self.platform.tasks.delete(self.caller, "acme", "acme", task_id)
        if task_id not in self.model:
            self._asked(asked, NotFound)
            return
        assert self._asked(asked, None) == "Deleted"
        self.model[task_id].state = "Deleted"
        self.model[task_id].artifact = None

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """Retry a Failed or Deleted task; its log and its attempts continue."""
        task_id = data.draw(st.sampled_from([*self.model, TaskId(self.rows.dataset_id)]), label="task")
        task = self.model.get(task_id)
        refusal: type[Exception] | None = None
        if task is None:
            refusal = NotFound
        elif task.state not in {"Failed", "Deleted"}:
            refusal = Conflict
        elif self._active() == ACTIVE_AT_MOST:
            refusal = LimitReached
        self._asked(self.reruns.retry(self.caller, "acme", "acme", task_id), refusal)
        if task is not None and refusal is None:
            task.state, task.failed_attempts = "Waiting", 0

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        """Restart an ended task as a new one."""
        task_id = data.draw(st.sampled_from([*self.model, TaskId(self.rows.dataset_id)]), label="task")
        task = self.model.get(task_id)
        refusal: type[Exception] | None = None
        if task is None:
            refusal = NotFound
        elif task.state not in ENDED:
            refusal = Conflict
        elif self._active() == ACTIVE_AT_MOST:
            refusal = LimitReached
        asked = self.reruns.restart(self.caller, "acme", "acme", task_id, params={}, rerun_from=None)
        submitted = self._asked(asked, refusal)
        if task is not None and refusal is None:
            self.model[submitted.task_id] = Expected(task.label)

    @rule()
    def clear(self) -> None:
        """Clear ended tasks."""
        cleared = self.runner.run(self.platform.tasks.clear(self.caller, "acme", "acme", tool_id=None))
        ended = [key for key, task in self.model.items() if task.state in ENDED]
        assert cleared == len(ended)
        for task_id in ended:
            del self.model[task_id]

    # Workers

    @rule(target=holders)
    def claim(self) -> Any:
        """Claim a waiting task."""
        waiting = [key for key, task in self.model.items() if task.state == "Waiting"]
        claimed = self.runner.run(self.rows.claim(max_running_per_user=100))
        if claimed is None:
            assert not waiting
            return multiple()
        task = self.model[claimed.lease.task_id]
        task.state, task.attempt = "Processing", task.attempt + 1
        assert (claimed.lease.task_id in waiting, claimed.lease.attempt) == (True, task.attempt)
        assert (claimed.failed_attempts, claimed.log_next) == (task.failed_attempts, len(task.lines))
        return Holder(claimed)

    @rule(holder=holders, lines=st.integers(0, 3), twice=st.booleans())
    def report(self, holder: Holder, lines: int, twice: bool) -> None:  # noqa: FBT001
        """Write lines, maybe twice as after a lost answer."""
        first = holder.claimed.log_next + holder.written
        said = tuple(f"{holder.claimed.lease.attempt}: {first + n}" for n in range(lines))
        for _ in range(2 if twice else 1):
            if self._as_holder(holder, leases.report, Report(first, said, 10.0)) and said:
                holder.written = first + lines - holder.claimed.log_next
                self._task(holder).lines[first:] = said

    @rule(holder=holders)
    def succeed(self, holder: Holder) -> None:
        """Store an output and succeed; without the lease, remove the output again."""
        blob = self.runner.run(self._stored())
        made = NewArtifact("made.txt", "text/plain", blob.key, blob.size_bytes, blob.sha256, TTL_S)
        done = self._as_holder(
            holder,
            leases.finish,
            Success([made]),
            self._silence(holder),
            actor="worker 1",
        )
        if done:
            self._task(holder).state, self._task(holder).artifact = "Succeeded", blob.key
        else:
            self.runner.run(self.platform.blobs.remove(blob.key))

    @rule(holder=holders)
    def fail(self, holder: Holder) -> None:
        """Fail the task."""
        if self._as_holder(
            holder, leases.finish, Failure("tool-failed", "x"), self._silence(holder), actor="worker 1"
        ):
            self._task(holder).state = "Failed"

    @rule(holder=holders, crashed=st.booleans())
    def give_back(self, holder: Holder, crashed: bool) -> None:  # noqa: FBT001
        """Give the task back, as in a hand-over or after a crash of its child."""
        done = self._as_holder(
            holder,
            leases.finish,
            Retry("worker stopping", counts_as_failed=crashed),
            self._silence(holder),
            actor="worker 1",
        )
        if done:
            self._task(holder).state = "Waiting"
            self._task(holder).failed_attempts += crashed

    @rule()
    def kill(self) -> None:
        """Every worker dies: their leases expire and their tasks are recovered; a second time changes nothing."""
        held = {key for key, task in self.model.items() if task.state == "Processing"}
        freed = self.runner.run(self._lose_leases())
        assert {task.task_id for task in freed} == held
        assert self.runner.run(self._recover()) == []
        for task_id in held:
            task = self.model[task_id]
            task.failed_attempts += 1
            task.state = "Failed" if task.failed_attempts >= MAX_ATTEMPTS else "Waiting"

    @rule()
    def expire(self) -> None:
        """Advance the clock beyond the artifacts' expiry."""
        service = self._sweep_later(timedelta(seconds=TTL_S + 1))
        expired = [task for task in self.model.values() if task.artifact]
        assert self.runner.run(service.remove_expired_artifacts()) == len(expired)
        for task in expired:
            task.artifact = None

    @rule()
    def grow_old(self) -> None:
        """Advance the clock beyond the tasks' retention."""
        service = self._sweep_later(
            timedelta(days=self.platform.settings.retention.task_retention_days, seconds=1)
        )
        ended = [key for key, task in self.model.items() if task.state in ENDED]
        assert self.runner.run(service.remove_old_tasks()) == len(ended)
        for task_id in ended:
            del self.model[task_id]

    # Invariants after each step

    @invariant()
    def rows_are_as_expected(self) -> None:
        """Every task has the model's state, log and artifact, and its history leads to that state."""
        seen = self.runner.run(self._seen())
        assert {key: row["state"] for key, row in seen.items()} == {
            key: task.state for key, task in self.model.items()
        }
        for task_id, row in seen.items():
            task = self.model[task_id]
            assert (row["attempt"], row["strikes"]) == (task.attempt, task.failed_attempts)
            assert (row["lines"], row["log_next"]) == (task.lines, len(task.lines))
            assert row["artifacts"] == ([task.artifact] if task.artifact else [])
            assert list(history_faults(row["history"], row["raw_state"], row["attempt"])) == []

    @invariant()
    def only_named_contents_are_stored(self) -> None:
        """Every stored blob is referenced, and none is missing."""
        assert self._stored_keys() == {task.artifact for task in self.model.values() if task.artifact}

    # Helpers

    def _asked(self, asked: Coroutine[Any, Any, Any], refusal: type[Exception] | None) -> Any:
        """The response to a client, an error if the model says so."""
        if refusal is None:
            return self.runner.run(asked)
        with pytest.raises(refusal):
            self.runner.run(asked)
        return None

    def _stored_keys(self) -> set[str]:
        return {key for batch in self.platform.blobs.all_keys() for key in batch}

    def _answers(self, task: Expected) -> bool:
        return task.state not in ENDED or (task.state == "Succeeded" and task.artifact is not None)

    def _active(self) -> int:
        return sum(task.state not in ENDED for task in self.model.values())

    def _task(self, holder: Holder) -> Expected:
        return self.model[holder.claimed.lease.task_id]

    def _silence(self, holder: Holder) -> Report:
        return Report(holder.claimed.log_next + holder.written)

    def _holds(self, holder: Holder) -> bool:
        """Whether the worker still has the lease in the model."""
        lease = holder.claimed.lease
        task = self.model.get(lease.task_id)
        return task is not None and (task.state, task.attempt) == ("Processing", lease.attempt)

    def _as_holder(self, holder: Holder, step: Any, *arguments: Any, **named: Any) -> bool:
        """Run a step that requires the lease; whether the model allows it, as asserted."""

        async def attempt() -> None:
            async with self.platform.db.begin() as connection:
                await step(connection, holder.claimed.lease, *arguments, log_limits=KEEP, **named)

        if self._holds(holder):
            self.runner.run(attempt())
            return True
        with pytest.raises(LeaseLost):
            self.runner.run(attempt())
        return False

    async def _stored(self) -> Any:
        async def content() -> Any:
            yield b"an output"

        return await self.platform.blobs.put(content(), limit_bytes=100)

    async def _lose_leases(self) -> list[recovery.RecoveredTask]:
        async with self.platform.db.begin() as connection:
            late = (
                "UPDATE tasks SET lease_until = clock_timestamp() - interval '1 s' WHERE state = 'Processing'"
            )
            await connection.execute(text(late))
        return await self._recover()

    async def _recover(self) -> list[recovery.RecoveredTask]:
        async with self.platform.db.begin() as connection:
            return await recovery.recover_lost(connection, max_attempts=MAX_ATTEMPTS, quiet_s=60, settle_s=60)

    def _sweep_later(self, by: timedelta) -> Any:
        sweep = self.platform.maintenance
        return replace(sweep, clock_offset_s=int(by.total_seconds()))

    async def _seen(self) -> dict[TaskId, dict[str, Any]]:
        query = text(
            """
            SELECT t.id, t.state AS raw_state, t.attempt, t.strikes, t.log_next, t.history,
                CASE WHEN t.state IN ('Created', 'Enqueued', 'Scheduled') THEN 'Waiting' ELSE t.state END AS state,
                ARRAY(SELECT line FROM task_log l WHERE l.task_id = t.id ORDER BY n) AS lines,
                ARRAY(SELECT blob_key FROM artifacts a WHERE a.task_id = t.id) AS artifacts
            FROM tasks t
            """
        )
        async with self.platform.db.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return {TaskId(row["id"]): dict(row) for row in rows}


def test_no_order_of_operations_breaks_the_model(settings: Settings) -> None:
    limited = settings.model_copy(update={"quotas": replace(settings.quotas, active_per_org=ACTIVE_AT_MOST)})
    with asyncio.Runner() as runner:
        opening = open_platform(limited, application="tests")
        opened = runner.run(opening.__aenter__())
        maker = registry_of([EntryPoint("maker", f"{__name__}:Maker", GROUP)])

        class Run(Tasks):
            platform, submits = opened, replace(opened.submit, registry=maker)
            reruns = replace(opened.retries, submits=submits)
            rows = runner.run(first_rows(opened))

        Run.runner = runner
        run_state_machine_as_test(Run, settings=BOUNDS)
        runner.run(opening.__aexit__(None, None, None))


async def first_rows(platform: Platform) -> Rows:
    return await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")

"""Submit of a task: checks, plan, deduplication, quotas and the commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.async_commit import flush_wal
from aerotask.db.engine import Database
from aerotask.db.locks import LockSpace
from aerotask.dispatch.dispatcher import Wakeup
from aerotask.domain.access import Access, Caller, rights_on
from aerotask.domain.errors import Conflict, InvalidInput, NotFound
from aerotask.domain.ids import OrgId, TaskId, new_id
from aerotask.domain.settings import Quotas
from aerotask.failpoints import failpoint
from aerotask.registry import Registry
from aerotask.sdk import Limits, Tool
from aerotask.services.accounts.permissions import AccessibleDataset, PermissionService, require
from aerotask.services.accounts.tokens import UnverifiedPrincipal
from aerotask.services.storage.disk_check import DiskCheck
from aerotask.services.tasks.idempotency import IdempotentRequest, idempotent
from aerotask.services.tasks.planning import PlannedRun, plan_run
from aerotask.services.tasks.quota import QuotaRequest, enforce, raise_if_exceeded, raise_if_oversized
from aerotask.services.tasks.wakeups import WakeupSender
from aerotask.services.tasks.webhooks import WebhookService
from aerotask.store.datasets import datasets
from aerotask.store.datasets.datasets import DatasetRow
from aerotask.store.tasks import quota as usage_queries
from aerotask.store.tasks import submit
from aerotask.store.tasks.submit import DedupMatch, Duplicate, NewTask, UniqueIdTaken

MAX_SCHEDULE_AHEAD = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Submission:
    """A client's request to run a tool."""

    tool_id: str
    version: str | None = None
    path: str | None = None
    params: Mapping[str, Any] | None = None
    force: bool = False
    scheduled_at: datetime | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unique_id: str | None = None
    restart_of: TaskId | None = None
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """Result of a submission: a new task, or an existing duplicate (`deduplicated`)."""

    task_id: TaskId
    tool_id: str
    version: str
    deduplicated: bool
    estimated_output_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The form in which an idempotent response is stored."""
        return {**asdict(self), "task_id": str(self.task_id)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Submitted:
        """The inverse of `to_json`."""
        return cls(**{**stored, "task_id": TaskId(UUID(stored["task_id"]))})


@dataclass(frozen=True, slots=True)
class SubmitService:
    """Accepts submissions."""

    db: Database
    access: PermissionService
    registry: Registry
    wakeups: WakeupSender
    quotas: Quotas
    dedup_lookback: timedelta
    webhooks: WebhookService
    limits: Limits
    disk: DiskCheck

    async def submit(
        self,
        principal: UnverifiedPrincipal,
        org_slug: str,
        slug: str,
        submission: Submission,
        *,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Check, plan and commit a task; once this returns, no crash can lose it.

        Raises:
            Unauthenticated, NotFound: the dataset can't be read by the caller.
            InvalidInput: tool, version, params, paths or the time are invalid.
            Forbidden: the caller lacks the permissions that the tool requires.
            Conflict: the `uniqueId` is taken, or an input was replaced or removed meanwhile.
            KeyReused: the key was used for another submission.
            TooLarge, LimitReached: a quota is exceeded.
            DiskFull: the storage is full, and the task would write to it.
        """
        caller, dataset = await self.access.authorize(principal, org_slug, slug)
        request = None
        if idempotency_key is not None:
            request = idempotent(caller, idempotency_key, _fingerprint_source(dataset.row, submission))
            async with self.db.read() as connection:
                first = await request.first_response(connection)
            if first is not None:
                await self._flush()
                return Submitted.from_json(first)
        return await self.submit_to(caller, dataset, submission, request)

    async def submit_to(
        self,
        caller: Caller,
        dataset: AccessibleDataset,
        submission: Submission,
        request: IdempotentRequest | None = None,
    ) -> Submitted:
        """As `submit`, for a dataset that the caller is authorised for."""
        _check_scheduled_at(submission.scheduled_at)
        tool = self.available_tool(submission.tool_id, submission.version)
        require(caller, dataset.rights, tool.access)
        self.webhooks.check(caller, submission.callback_url)
        run = await plan_run(
            self.db,
            dataset.row,
            tool,
            path=submission.path,
            params=submission.params or {},
            limits=self.limits,
        )
        require(caller, dataset.rights, run.required_access)
        task = _new_task(caller, dataset.row, run, submission)
        if task.estimated_output_bytes and task.scheduled_at is None:
            await self.disk.raise_if_full()
        submitted = await self._insert(caller, tool, task, request, force=submission.force)
        await self._flush()
        if submitted.task_id == task.id:
            failpoint("submit-committed")
            self.wakeups.enqueue(Wakeup(submitted.task_id, 0))
        return submitted

    def available_tool(self, tool_id: str, version: str | None) -> Tool[Any]:
        """The tool of that version, or of the highest.

        Raises:
            InvalidInput: there is none, or it can't run here.
        """
        tool = self.registry.get(tool_id, version)
        reason = tool.unavailable_reason()
        if reason:
            raise InvalidInput(f"Tool '{tool.id}' can't run here: {reason}", code="tool-unavailable")
        return tool

    async def _insert(
        self,
        caller: Caller,
        tool: Tool[Any],
        task: NewTask,
        request: IdempotentRequest | None,
        *,
        force: bool,
    ) -> Submitted:
        async with self.db.begin() as connection:
            if request is not None:
                await request.lock(connection)
                first = await request.first_response(connection)
                if first is not None:
                    return Submitted.from_json(first)
            request_of_tool = QuotaRequest.of_tool(
                tool, self.registry, task.org_id, task.user_id, task.estimated_output_bytes
            )
            quota = replace(request_of_tool, scheduled=task.scheduled_at is not None)
            duplicate = await self._find_duplicate_or_check_quota(
                connection, caller, tool, task, quota, force=force
            )
            if duplicate is None:
                await self._add(connection, caller, task, quota)
                submitted = _submitted(task, task.id, task.estimated_output_bytes, deduplicated=False)
            else:
                submitted = _submitted(
                    task, duplicate.id, duplicate.estimated_output_bytes, deduplicated=True
                )
            if request is not None:
                await request.store(connection, submitted.to_json())
        return submitted

    async def _flush(self) -> None:
        """Wait until the returned task is on the disk, also if another request committed it."""
        async with self.db.read() as connection:
            await flush_wal(connection)

    async def _find_duplicate_or_check_quota(  # noqa: PLR0913  the task, its submitter and its quotas
        self,
        connection: AsyncConnection,
        caller: Caller,
        tool: Tool[Any],
        task: NewTask,
        quota: QuotaRequest,
        *,
        force: bool,
    ) -> Duplicate | None:
        """The task's duplicate; if there is none, check `uniqueId` and quotas without the global lock."""
        if force:
            usage = await usage_queries.read_usage(connection, quota.scope)
        else:
            await locks.take(connection, LockSpace.DEDUP, locks.key_of(task.dedup_key))
            match = DedupMatch(
                dataset_id=task.dataset_id,
                dedup_key=task.dedup_key,
                lookback=self.dedup_lookback,
                needs_artifact=tool.artifact_suffix is not None,
                active_only=tool.access is not Access.READ,
                scheduled_at=task.scheduled_at,
                callback_url=task.callback_url,
            )
            duplicate, usage = await submit.find_duplicate_and_usage(connection, match, quota.scope)
            if duplicate is not None:
                return duplicate
        if task.unique_id is not None:
            await _raise_if_taken(connection, caller, task.org_id, task.unique_id)
        raise_if_oversized(self.quotas, task.estimated_output_bytes)
        # Check the quota before inserting, otherwise clients that retry at the limit create dead rows.
        raise_if_exceeded(self.quotas, usage, quota)
        return None

    async def _add(
        self, connection: AsyncConnection, caller: Caller, task: NewTask, quota: QuotaRequest
    ) -> None:
        # Do the slow work before taking the global quota lock. Usage counted under it holds until the commit.
        try:
            replaced = await submit.add(connection, task, actor=caller.display_name)
        except IntegrityError as error:  # the dataset was removed after the permission check
            raise NotFound("The dataset has been deleted meanwhile.") from error
        except UniqueIdTaken as error:  # after the check above
            await _raise_if_taken(connection, caller, task.org_id, str(task.unique_id))
            raise Conflict("Another task has just taken this uniqueId.", code="unique-id-taken") from error
        if replaced:
            raise Conflict(
                "An input was replaced or removed while the task was submitted; submit it again.",
                code="input-changed",
            )
        await enforce(connection, self.quotas, quota, excluding=task.id)


async def _raise_if_taken(connection: AsyncConnection, caller: Caller, org_id: OrgId, unique_id: str) -> None:
    owner = await submit.find_unique_id_owner(connection, org_id, unique_id)
    if owner is None:
        return
    dataset = await datasets.get(connection, owner.dataset_id, seen_by=caller.user_id)
    # Only callers who may read the other task's dataset learn where it is.
    shown = dataset is not None and Access.READ in rights_on(caller, dataset.standing, dataset.visibility)
    raise Conflict(
        f"Another task of the organization has this uniqueId{'; see Location' if shown else ''}.",
        code="unique-id-taken",
        location=f"/orgs/{owner.org_slug}/ds/{owner.dataset_slug}/tasks/{owner.id}" if shown else None,
    )


def _check_scheduled_at(scheduled_at: datetime | None) -> None:
    if scheduled_at is not None and scheduled_at > datetime.now(UTC) + MAX_SCHEDULE_AHEAD:
        raise InvalidInput(
            f"'scheduledAt' may be {MAX_SCHEDULE_AHEAD.days} days ahead at most.", code="scheduled-too-late"
        )


def _fingerprint_source(dataset: DatasetRow, submission: Submission) -> dict[str, Any]:
    return {"dataset": str(dataset.id), **asdict(submission)}


def _new_task(caller: Caller, dataset: DatasetRow, run: PlannedRun, submission: Submission) -> NewTask:
    path = run.params.get("path")
    scheduled_at = submission.scheduled_at
    return NewTask(
        id=TaskId(new_id()),
        org_id=dataset.standing.org_id,
        dataset_id=dataset.id,
        user_id=caller.user_id,
        tool_id=run.tool.id,
        tool_version=run.tool.version,
        path=path if isinstance(path, str) else None,
        params=run.params,
        dedup_key=run.dedup_key,
        estimated_output_bytes=run.plan.estimated_output_bytes,
        memory_bytes=run.plan.memory_bytes,
        writes=run.plan.writes,
        inputs=run.inputs,
        # A time in the past means now, which counts as active at once.
        scheduled_at=scheduled_at if scheduled_at and scheduled_at > datetime.now(UTC) else None,
        tags=submission.tags,
        client_metadata=submission.metadata,
        unique_id=submission.unique_id,
        restart_of=submission.restart_of,
        callback_url=submission.callback_url,
    )


def _submitted(task: NewTask, task_id: TaskId, estimated: int, *, deduplicated: bool) -> Submitted:
    return Submitted(task_id, task.tool_id, task.tool_version, deduplicated, estimated)

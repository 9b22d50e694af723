"""Retry of an ended task, and restart: a new task with the params of an ended one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db.async_commit import flush_wal
from aerotask.db.engine import Database
from aerotask.dispatch.dispatcher import Wakeup
from aerotask.domain.access import Caller
from aerotask.domain.errors import Conflict, InvalidInput
from aerotask.domain.ids import TaskId
from aerotask.domain.settings import Quotas
from aerotask.domain.states import TaskState
from aerotask.sdk import Tool
from aerotask.services.accounts.permissions import AccessibleDataset
from aerotask.services.tasks.quota import QuotaRequest, enforce
from aerotask.services.tasks.submit import Submission, SubmitService, Submitted
from aerotask.services.tasks.tasks import TaskService
from aerotask.services.tasks.wakeups import WakeupSender
from aerotask.store.queue import retry
from aerotask.store.queue.retention import retain_blobs
from aerotask.store.tasks import tasks
from aerotask.store.tasks.tasks import TaskRow


@dataclass(frozen=True, slots=True)
class RetryService:
    """Retries and restarts ended tasks."""

    db: Database
    tasks: TaskService
    submits: SubmitService
    wakeups: WakeupSender
    quotas: Quotas

    async def retry(self, caller: Caller, org_slug: str, slug: str, task_id: TaskId) -> TaskRow:
        """Run a Failed or Deleted task again on the contents that it was submitted for; its log continues.

        Raises:
            Forbidden: the caller is neither the task's owner nor an administrator.
            Conflict: it has not ended, has succeeded, its params are damaged, or the content of an input was removed.
            LimitReached: a quota is exceeded.
            DiskFull: the storage is full, and the task would write to it.
        """
        dataset, task = await self.tasks.get_managed(caller, org_slug, slug, task_id)
        _raise_if_damaged(task)
        tool = self.submits.available_tool(task.tool_id, task.tool_version)
        if task.estimated_output_bytes:
            await self.submits.disk.raise_if_full()
        async with self.db.begin() as connection:
            attempts = await self._requeue(connection, caller, dataset, task, tool)
        async with self.db.read() as connection:
            await flush_wal(connection)
        self.wakeups.enqueue(Wakeup(task_id, attempts))
        return await self.tasks.status_in(dataset, task_id)

    async def restart(  # noqa: PLR0913  the task, and what changes
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        task_id: TaskId,
        *,
        params: Mapping[str, Any],
        rerun_from: str | None,
    ) -> Submitted:
        """Submit a new task like an ended one, with some params changed, on the dataset's present contents.

        The new task is the caller's; the callback URL of another user's task is not copied.

        Raises:
            Forbidden, LimitReached, TooLarge: as for a submit.
            Conflict: the task has not ended, or its params are damaged.
            InvalidInput: the tool's version is not installed, has no stages, or rejects the params.
        """
        dataset, task = await self.tasks.get_managed(caller, org_slug, slug, task_id)
        if not task.state.terminal:
            raise Conflict(f"The task is {task.state}; restart it when it has ended.", code="not-ended")
        _raise_if_damaged(task)
        if rerun_from is not None:
            raise InvalidInput(f"Tool '{task.tool_id}' has no stages to run from.", code="no-stages")
        submission = Submission(
            tool_id=task.tool_id,
            version=task.tool_version,
            params={**task.params, **params},
            force=True,
            tags=tuple(task.tags),
            metadata=task.client_metadata,
            restart_of=task_id,
            # The new owner's secret would sign messages to the first owner's URL.
            callback_url=task.callback_url if task.user_id == caller.user_id else None,
        )
        return await self.submits.submit_to(caller, dataset, submission)

    async def _requeue(
        self,
        connection: AsyncConnection,
        caller: Caller,
        dataset: AccessibleDataset,
        task: TaskRow,
        tool: Tool[Any],
    ) -> int:
        if task.state not in {TaskState.FAILED, TaskState.DELETED}:
            raise _not_retryable(task.state)
        if await retain_blobs(connection, await tasks.input_blobs(connection, task.id)):
            raise Conflict(
                "An input of the task has been replaced or removed since; restart the task to run it "
                "on the present contents.",
                code="input-changed",
            )
        org_id = dataset.row.standing.org_id
        request = QuotaRequest.of_tool(
            tool, self.submits.registry, org_id, task.user_id, task.estimated_output_bytes
        )
        await enforce(connection, self.quotas, request)
        attempts = await retry.requeue(connection, task.id, actor=caller.display_name)
        if attempts is None:
            raise Conflict(
                "The task has just been retried or removed by another request.", code="not-retryable"
            )
        return attempts


def _raise_if_damaged(task: TaskRow) -> None:
    # Without its params the tool would do something else.
    if "params" in task.damaged:
        raise Conflict(
            "The task's params are damaged in the database; submit a new task.", code="damaged-params"
        )


def _not_retryable(state: TaskState) -> Conflict:
    advice = "restart it to run it again" if state is TaskState.SUCCEEDED else "wait until it has ended"
    return Conflict(
        f"The task is {state}; only Failed and Deleted ones can be retried: {advice}.", code="not-retryable"
    )

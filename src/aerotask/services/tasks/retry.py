"""Ended tasks, once more: the same one again (retry), or a new one made from it (restart)."""

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
from aerotask.store.queue import cancel
from aerotask.store.queue.retention import hold_names
from aerotask.store.tasks import tasks
from aerotask.store.tasks.tasks import TaskRow


@dataclass(frozen=True, slots=True)
class RetryService:
    """Runs ended tasks again."""

    db: Database
    tasks: TaskService
    submits: SubmitService
    hints: WakeupSender
    quotas: Quotas

    async def retry(self, caller: Caller, org_slug: str, slug: str, task_id: TaskId) -> TaskRow:
        """Run a Failed or Deleted task again on the contents that it was submitted for; the log goes on.

        Raises:
            Forbidden: the task is somebody else's and the caller is no administrator.
            Conflict: it has not ended, has succeeded, or what it read is gone.
            LimitReached: it would be one task too many.
        """
        dataset, task = await self.tasks.managed(caller, org_slug, slug, task_id)
        tool = self.submits.available_tool(task.tool_id, task.tool_version)
        async with self.db.begin() as connection:
            attempts = await self._begin_again(connection, caller, dataset, task, tool)
        async with self.db.read() as connection:
            await flush_wal(connection)
        self.hints.notify(Wakeup(task_id, attempts))
        return await self.tasks.status_in(dataset, task_id)

    async def restart(  # noqa: PLR0913  which task, and what is to be different
        self,
        caller: Caller,
        org_slug: str,
        slug: str,
        task_id: TaskId,
        *,
        params: Mapping[str, Any],
        rerun_from: str | None,
    ) -> Submitted:
        """Submit an ended task anew, with some params changed, on the contents that are there now.

        The new task is the caller's; of somebody else's it doesn't take over where messages go.

        Raises:
            Forbidden, LimitReached, TooLarge: as for a submit.
            Conflict: the task has not ended.
            InvalidInput: the tool's version is gone, has no stages, or doesn't take the params.
        """
        dataset, task = await self.tasks.managed(caller, org_slug, slug, task_id)
        if not task.state.terminal:
            raise Conflict(f"The task is {task.state}; restart it when it has ended.", code="not-ended")
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
            # The new task is the restarter's, and so is the secret that its messages would be signed with.
            callback_url=task.callback_url if task.user_id == caller.user_id else None,
        )
        return await self.submits.submit_to(caller, dataset, submission)

    async def _begin_again(
        self,
        connection: AsyncConnection,
        caller: Caller,
        dataset: AccessibleDataset,
        task: TaskRow,
        tool: Tool[Any],
    ) -> int:
        if task.state not in {TaskState.FAILED, TaskState.DELETED}:
            raise _not_retryable(task.state)
        if await hold_names(connection, await tasks.input_blobs(connection, task.id)):
            raise Conflict(
                "A file that the task read has been replaced or removed since; restart the task to run it "
                "on what is there now.",
                code="input-changed",
            )
        org_id = dataset.row.standing.org_id
        request = QuotaRequest.of_tool(
            tool, self.submits.registry, org_id, task.user_id, task.estimated_output_bytes
        )
        await enforce(connection, self.quotas, request)
        attempts = await cancel.begin_again(connection, task.id, actor=caller.display_name)
        if attempts is None:
            raise Conflict("Somebody else has retried or removed the task.", code="not-retryable")
        return attempts


def _not_retryable(state: TaskState) -> Conflict:
    advice = "restart it to run it anew" if state is TaskState.SUCCEEDED else "wait until it has ended"
    return Conflict(
        f"The task is {state}; only Failed and Deleted ones can be retried: {advice}.", code="not-retryable"
    )

"""Task service: status, lists, log, results, cancel and clear."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aerotask.blobs.blob_store import BlobStore, OpenBlob
from aerotask.blobs.missing import content_missing
from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access, Caller, may_manage_task
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Conflict, Forbidden, Gone, NotFound
from aerotask.domain.ids import TaskId
from aerotask.domain.states import TaskState
from aerotask.services.accounts.permissions import (
    AccessibleDataset,
    PermissionService,
    require_admin,
    require_user,
)
from aerotask.services.accounts.tokens import UnverifiedPrincipal
from aerotask.services.tasks.webhooks import enqueue_webhooks
from aerotask.store.accounts import audit
from aerotask.store.queue import cancel, clear, logs, retention
from aerotask.store.queue.logs import LogPage
from aerotask.store.tasks import tasks, webhooks
from aerotask.store.tasks.tasks import ArtifactRow, TaskFilter, TaskRow
from aerotask.store.tasks.webhooks import WebhookRow

MAX_TAKE = 200
MAX_LOG_LINES = 1000
_READING = frozenset({Access.READ})


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of the tasks that pass a filter, and their total number."""

    items: list[TaskRow]
    total: int
    take: int
    """The page size, within the limits."""


@dataclass(frozen=True, slots=True)
class OpenArtifact:
    """An artifact with its content opened for reading."""

    row: ArtifactRow
    content: OpenBlob
    allows_anonymous: bool
    """Whether its dataset may be read without credentials."""


@dataclass(frozen=True, slots=True)
class TaskService:
    """Operations on submitted tasks."""

    db: Database
    blobs: BlobStore
    access: PermissionService

    async def status(
        self, principal: UnverifiedPrincipal, org_slug: str, slug: str, task_id: TaskId
    ) -> TaskRow:
        """The task; requires Read on the dataset.

        Raises:
            NotFound: the dataset has no such task.
        """
        caller, dataset, task = await self.access.authorize_task(principal, org_slug, slug, task_id)
        if task is None:
            raise _no_task(task_id)
        return _as_seen(caller, dataset.rights, task)

    async def find_dataset(self, principal: UnverifiedPrincipal, task_id: TaskId) -> tuple[str, str]:
        """The slugs of the organization and the dataset of a task that the caller may read.

        Raises:
            Unauthenticated: the caller is anonymous, and the task is in no public dataset or does not exist.
            NotFound: the task does not exist, or the caller may not read its dataset.
        """
        async with self.db.read() as connection:
            # For an unknown task, a dataset that can't exist: the answer must not tell the two apart.
            org_slug, slug = await tasks.find_dataset(connection, task_id) or ("", "")
        try:
            await self.access.authorize(principal, org_slug, slug)
        except NotFound:
            raise NotFound(f"There is no task {task_id}.", code="no-such-task") from None
        return org_slug, slug

    async def status_in(self, dataset: AccessibleDataset, task_id: TaskId) -> TaskRow:
        """A task of a dataset that the caller is authorised for.

        Raises:
            NotFound: the dataset has no such task.
        """
        async with self.db.read() as connection:
            task = await tasks.find(connection, dataset.row.id, task_id)
        if task is None:
            raise _no_task(task_id)
        return task

    async def get_managed(
        self, caller: Caller, org_slug: str, slug: str, task_id: TaskId
    ) -> tuple[AccessibleDataset, TaskRow]:
        """The task and its dataset, for a caller that may cancel, delete, retry and restart it.

        Raises:
            Forbidden: the caller is neither the task's owner nor an administrator.
            NotFound: the dataset has no such task.
        """
        dataset = await self.access.dataset(caller, org_slug, slug)
        task = await self.status_in(dataset, task_id)
        if not may_manage_task(caller, dataset.rights, task.user_id):
            raise Forbidden("Only the task's owner or an administrator may do this.")
        return dataset, task

    async def list_tasks(  # noqa: PLR0913  the dataset, the filter and the page
        self, caller: Caller, org_slug: str, slug: str, task_filter: TaskFilter, *, skip: int, take: int
    ) -> TaskPage:
        """The dataset's tasks that pass the filter, newest first.

        Raises:
            InvalidPath: the filter's path is invalid.
        """
        dataset = await self.access.dataset(caller, org_slug, slug)
        path = paths.entry_path(task_filter.path) if task_filter.path else task_filter.path
        in_dataset = replace(task_filter, dataset_id=dataset.row.id, path=path)
        page = await self._page(in_dataset, skip=skip, take=take)
        return replace(page, items=[_as_seen(caller, dataset.rights, task) for task in page.items])

    async def list_own(self, caller: Caller, task_filter: TaskFilter, *, skip: int, take: int) -> TaskPage:
        """The caller's tasks in every dataset that it may still read, newest first.

        Raises:
            Unauthenticated: the caller is anonymous.
        """
        user_id = require_user(caller)
        own = replace(task_filter, owner_id=user_id, readable_by=None if caller.is_admin else user_id)
        page = await self._page(own, skip=skip, take=take)
        return replace(page, items=[_as_seen(caller, _READING, task) for task in page.items])

    async def list_all(self, caller: Caller, task_filter: TaskFilter, *, skip: int, take: int) -> TaskPage:
        """Every task of the system that passes the filter, newest first; for administrators."""
        require_admin(caller)
        page = await self._page(task_filter, skip=skip, take=take)
        return replace(page, items=[_as_seen(caller, frozenset(Access), task) for task in page.items])

    async def log(  # noqa: PLR0913  the task, and the part of its log
        self, caller: Caller, org_slug: str, slug: str, task_id: TaskId, *, since: int, take: int
    ) -> LogPage:
        """Lines of the task's log, from number `since` on."""
        dataset = await self.access.dataset(caller, org_slug, slug)
        await self.status_in(dataset, task_id)
        async with self.db.read() as connection:
            return await logs.read(connection, task_id, since=since, take=max(1, min(take, MAX_LOG_LINES)))

    async def open_result(
        self, caller: Caller, org_slug: str, slug: str, task_id: TaskId, *, file_name: str | None = None
    ) -> OpenArtifact:
        """Open the task's artifact for reading, if it has that file name.

        Raises:
            Conflict: the task has not succeeded yet.
            Gone: the artifact has expired.
            NotFound: the task's tool makes none, or of another name.
        """
        dataset = await self.access.dataset(caller, org_slug, slug)
        artifact = await self.artifact_in(dataset, task_id)
        if file_name not in {None, artifact.file_name}:
            raise _no_asset()
        return await self._open(dataset, artifact)

    async def artifact_in(self, dataset: AccessibleDataset, task_id: TaskId) -> ArtifactRow:
        """The artifact of a task, in a dataset that the caller is authorised for.

        Raises:
            Conflict, Gone, NotFound: as for `open_result`.
        """
        task = await self.status_in(dataset, task_id)
        if task.artifact is None:
            raise _no_artifact(task)
        return task.artifact

    async def assets(
        self, caller: Caller, org_slug: str, slug: str, task_id: TaskId
    ) -> tuple[TaskRow, list[ArtifactRow]]:
        """The task, and every file that it offers for download, the result first."""
        task = await self.status(caller, org_slug, slug, task_id)
        async with self.db.read() as connection:
            return task, await tasks.list_artifacts(connection, task_id)

    async def open_asset(
        self, caller: Caller, org_slug: str, slug: str, task_id: TaskId, name: str
    ) -> OpenArtifact:
        """Open one of the task's files for reading.

        Raises:
            Conflict, Gone: as for the result.
            NotFound: the task has no file of that name.
        """
        dataset = await self.access.dataset(caller, org_slug, slug)
        task = await self.status_in(dataset, task_id)
        async with self.db.read() as connection:
            offered = await tasks.list_artifacts(connection, task_id)
        for asset in offered:
            if asset.file_name == name:
                return await self._open(dataset, asset)
        if task.artifact is None:
            raise _no_artifact(task)
        raise _no_asset()

    async def _open(self, dataset: AccessibleDataset, artifact: ArtifactRow) -> OpenArtifact:
        try:
            content = await self.blobs.open(artifact.blob_key, size_bytes=artifact.size_bytes)
            return OpenArtifact(artifact, content, dataset.allows_anonymous)
        except FileNotFoundError as error:
            async with self.db.read() as connection:
                named = await retention.referenced_among(connection, [artifact.blob_key])
            # Without a row it has expired since the look-up.
            raise (content_missing(artifact.blob_key) if named else _expired()) from error

    async def delete(self, caller: Caller, org_slug: str, slug: str, task_id: TaskId) -> TaskState:
        """Cancel the task if it is active, otherwise mark it Deleted; removes its artifacts.

        Raises:
            Forbidden: the caller is neither the task's owner nor an administrator.
            NotFound: the dataset has no such task.
        """
        dataset, task = await self.get_managed(caller, org_slug, slug, task_id)
        async with self.db.begin() as connection:
            deletion = await cancel.cancel_or_delete(
                connection, dataset.row.id, task_id, actor=caller.display_name
            )
            if deletion is None:
                raise _no_task(task_id)
            if deletion.changed:
                await enqueue_webhooks(connection, [task_id])
            if deletion.changed and task.user_id != caller.user_id:
                target = f"/orgs/{org_slug}/ds/{slug}/tasks/{task_id}"
                await audit.record(connection, caller, AuditAction.TASK_CANCELLED, target, was=task.state)
        await self._remove_blobs(deletion.blob_keys)
        return TaskState.DELETED

    async def webhooks(self, caller: Caller, org_slug: str, slug: str, task_id: TaskId) -> list[WebhookRow]:
        """The webhooks about the task; their callback URL may hold secrets.

        Raises:
            Forbidden: the caller is neither the task's owner nor an administrator.
            NotFound: the dataset has no such task.
        """
        await self.get_managed(caller, org_slug, slug, task_id)
        async with self.db.read() as connection:
            return await webhooks.list_of_task(connection, task_id)

    async def clear(self, caller: Caller, org_slug: str, slug: str, *, tool_id: str | None) -> int:
        """Remove the dataset's ended tasks with logs and artifacts; the number of them. Requires Write.

        A few per transaction: after a crash, the next request removes the rest.
        """
        dataset = (await self.access.dataset(caller, org_slug, slug, to=Access.WRITE)).row
        target = f"/orgs/{org_slug}/ds/{slug}/tasks"
        total = 0
        while True:
            async with self.db.begin() as connection:
                cleared = await clear.clear_ended(connection, dataset.id, tool_id=tool_id)
                if not cleared.tasks:
                    return total
                await audit.record(
                    connection, caller, AuditAction.TASKS_CLEARED, target, tasks=cleared.tasks, toolId=tool_id
                )
            await self._remove_blobs(cleared.blob_keys)
            total += cleared.tasks

    async def _page(self, task_filter: TaskFilter, *, skip: int, take: int) -> TaskPage:
        take = max(1, min(take, MAX_TAKE))
        async with self.db.read() as connection:
            total = await tasks.count(connection, task_filter)
            items = await tasks.list_newest(connection, task_filter, skip=skip, take=take)
        return TaskPage(items, total, take)

    async def _remove_blobs(self, keys: tuple[str, ...]) -> None:
        # After the commit: a crash in between leaves blobs without a reference, which maintenance removes.
        for key in keys:
            await self.blobs.remove(key)


def _as_seen(caller: Caller, rights: frozenset[Access], task: TaskRow) -> TaskRow:
    """The task as the caller may see it: its callback URL, which may hold secrets, only if it may manage the task."""
    return task if may_manage_task(caller, rights, task.user_id) else replace(task, callback_url=None)


def _no_task(task_id: TaskId) -> NotFound:
    return NotFound(f"The dataset has no task {task_id}.", code="no-such-task")


def _no_artifact(task: TaskRow) -> Conflict | Gone | NotFound:
    if not task.state.terminal:
        return Conflict(
            f"The task is {task.state}; its result is available once it has Succeeded.", code="not-finished"
        )
    if task.state is not TaskState.SUCCEEDED:
        return Conflict(f"The task is {task.state} and has no result.", code="no-result")
    if task.artifact_bytes:
        return _expired()
    return NotFound("The task's tool makes no artifact; see its outcome in the status.", code="no-artifact")


def _no_asset() -> NotFound:
    return NotFound("The task has no file of that name; see its assets.", code="no-such-asset")


def _expired() -> Gone:
    return Gone("The artifact has expired; submit the task again to recreate it.", code="artifact-expired")

"""Watching a task: long polling of its status, and updates with log lines until it has ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from aerotask.db.outages import is_outage
from aerotask.domain.errors import Forbidden, NotFound, Unauthenticated
from aerotask.domain.ids import TaskId
from aerotask.representations.task_status import TaskResponse, etag_of, task_response
from aerotask.services.accounts.tokens import UnverifiedPrincipal
from aerotask.services.tasks.notifications import Subscription, TaskNotifications
from aerotask.services.tasks.tasks import TaskService
from aerotask.store.queue import logs
from aerotask.store.tasks.tasks import TaskRow

PAGE_LINES = 500
# Watchers that read at once; otherwise one notification could take every connection of the pool.
READERS = 4
# Pause of a watcher that is up to date, so that a busy task costs each of them few reads.
PAUSE_S = 0.25
OUTAGE_RETRY_S = 1.0
# Spreads the keep-alives of watchers that began together.
JITTER = 0.2

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Watcher:
    """A client that watches a task; `reauthenticate` checks its credentials again, which may be revoked meanwhile."""

    reauthenticate: Callable[[], Awaitable[UnverifiedPrincipal]]
    org_slug: str
    slug: str
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """A task's present state, with lines of its log from number `first` on."""

    task: TaskRow
    first: int
    lines: tuple[str, ...]
    missed: int
    """The number of requested lines before the first that have been dropped from the log."""

    @property
    def cursor(self) -> int:
        """The number of the next line to read."""
        return self.first + len(self.lines)

    @property
    def has_more(self) -> bool:
        """Whether the log has further lines."""
        return self.cursor < self.task.log_next

    @property
    def is_last(self) -> bool:
        """Whether the task has ended and this update has the end of its log."""
        return self.task.state.terminal and not self.has_more


@dataclass(frozen=True, slots=True)
class WatchService:
    """Waits for changes of tasks on behalf of clients."""

    tasks: TaskService
    notifications: TaskNotifications
    keepalive_s: float
    _readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))

    async def wait_for_status(
        self,
        watcher: Watcher,
        subscription: Subscription,
        *,
        wait_s: float,
        is_known: Callable[[str], bool] | None,
        represent: Callable[[TaskRow], TaskResponse] = task_response,
    ) -> TaskResponse:
        """The task's status, once the client does not know its ETag or `wait_s` have passed.

        Without `is_known`, the client knows the status at the beginning, and an ended task is returned at once.

        Raises:
            NotFound, Unauthenticated: as for a plain status request; also when permissions are revoked meanwhile.
        """
        end = asyncio.get_running_loop().time() + wait_s
        status = represent(await self._task(watcher))
        if is_known is None:
            if status.state.terminal:
                return status
            is_known = etag_of(status).__eq__
        while is_known(etag_of(status)) and not subscription.closed:
            left_s = end - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            if await subscription.wait(left_s):
                row = await self._read(subscription, partial(self._task, watcher))
                status = status if row is None else represent(row)
        return status

    async def updates(
        self, watcher: Watcher, subscription: Subscription, *, since: int
    ) -> AsyncGenerator[TaskUpdate | None]:
        """The task's updates until it has ended, with log lines from `since` on; None as a keep-alive.

        It ends early when the subscription is closed or the caller may no longer read the task. An outage of
        Postgres only delays it.

        Raises:
            NotFound, Unauthenticated: before the first update, as for a plain status request.
        """
        async with self._readers:
            update: TaskUpdate | None = await self._update(watcher, since)
        cursor, has_changed = since, False
        while True:
            yield update
            if update is not None:
                if update.is_last:
                    return
                cursor, has_changed = update.cursor, update.has_more
                update = None  # keep only the cursor in memory while the client waits
                if not has_changed:
                    await asyncio.sleep(PAUSE_S)
            has_changed = has_changed or await subscription.wait(self._keepalive_s())
            if subscription.closed:
                return
            try:
                update = await self._read(
                    subscription,
                    partial(self._update, watcher, cursor)
                    if has_changed
                    else partial(self._authorize, watcher),
                )
            except (Unauthenticated, Forbidden, NotFound):
                return
            except Exception as error:
                if not is_outage(error):
                    raise
                _log.warning("watch.delayed", task_id=str(watcher.task_id), error=str(error))
                has_changed = True
                await subscription.wait(OUTAGE_RETRY_S)

    async def log_pages(self, watcher: Watcher, *, since: int) -> AsyncGenerator[TaskUpdate]:
        """The log from number `since` up to its present end, page by page; the first page may be empty.

        Raises:
            NotFound, Unauthenticated: as for a plain status request.
        """
        task = await self._task(watcher)
        while True:
            page = await self._page(task, since)
            yield page
            if not page.lines:
                return
            since = page.cursor

    async def _read(self, subscription: Subscription, step: Callable[[], Awaitable[T | None]]) -> T | None:
        """The result of the step, run by at most `READERS` at once; None if the client has left meanwhile."""
        async with self._readers:
            return None if subscription.closed else await step()

    async def _update(self, watcher: Watcher, since: int) -> TaskUpdate:
        return await self._page(await self._task(watcher), since)

    async def _task(self, watcher: Watcher) -> TaskRow:
        principal = await watcher.reauthenticate()
        return await self.tasks.status(principal, watcher.org_slug, watcher.slug, watcher.task_id)

    async def _authorize(self, watcher: Watcher) -> None:
        principal = await watcher.reauthenticate()
        await self.tasks.access.authorize(principal, watcher.org_slug, watcher.slug)

    async def _page(self, task: TaskRow, since: int) -> TaskUpdate:
        since = min(since, task.log_next)
        if since == task.log_next:
            return TaskUpdate(task, since, (), 0)
        take = min(PAGE_LINES, task.log_next - since)
        async with self.tasks.db.read() as connection:
            page = await logs.read(connection, task.id, since=since, take=take)
        first = page.cursor - len(page.lines)
        # If lines have been dropped, the page reaches beyond the end of the log as this task row has it.
        return TaskUpdate(task, first, page.lines[: max(0, task.log_next - first)], first - since)

    def _keepalive_s(self) -> float:
        return self.keepalive_s * random.uniform(1 - JITTER, 1)  # noqa: S311  no secret depends on it

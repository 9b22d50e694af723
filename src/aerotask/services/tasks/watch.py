"""Following a task: a status that is held until it changes, and news from a cursor on until the end."""

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
from aerotask.representations.etags import status_tag
from aerotask.representations.task_status import TaskResponse, task_response
from aerotask.services.accounts.tokens import UnverifiedPrincipal
from aerotask.services.tasks.notifications import Subscription, TaskNotifications
from aerotask.services.tasks.tasks import TaskService
from aerotask.store.queue import logs
from aerotask.store.tasks.tasks import TaskRow

PAGE_LINES = 500
# At most so many followers read at once, whatever woke them, so that they never take all connections.
READERS = 4
# How long a follower who is up to date rests, so that a busy task costs each of them few reads.
REST_S = 0.25
OUTAGE_RETRY_S = 1.0
# Those who began together needn't all show a sign of life together for ever.
JITTER = 0.2

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who follows which task; `ask` finds out anew who they are, since rights may go while they wait."""

    ask: Callable[[], Awaitable[UnverifiedPrincipal]]
    org_slug: str
    slug: str
    task_id: TaskId


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """A task as it is, with lines of its log from number `first` on."""

    task: TaskRow
    first: int
    lines: tuple[str, ...]
    missed: int
    """How many lines before the first were asked for and are no longer kept."""

    @property
    def cursor(self) -> int:
        """Where the next read goes on."""
        return self.first + len(self.lines)

    @property
    def more(self) -> bool:
        """Whether the task has written further lines."""
        return self.cursor < self.task.log_next

    @property
    def last(self) -> bool:
        """Whether the task has ended and everything is told."""
        return self.task.state.terminal and not self.more


@dataclass(frozen=True, slots=True)
class WatchService:
    """What those ask for who don't want to ask again and again."""

    tasks: TaskService
    changes: TaskNotifications
    keepalive_s: float
    _readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))

    async def status(
        self, who: Watcher, watch: Subscription, *, wait_s: float, known: Callable[[str], bool] | None
    ) -> TaskResponse:
        """The task's status, once its tag is not `known` any more, or after so long.

        Without `known`, what is known is the status at the beginning, and that of an ended task is
        answered at once.

        Raises:
            NotFound, Unauthenticated: as for the status at once; also when rights go meanwhile.
        """
        end = asyncio.get_running_loop().time() + wait_s
        answer = task_response(await self._task(who))
        if known is None:
            if answer.state.terminal:
                return answer
            known = status_tag(answer).__eq__
        while known(status_tag(answer)) and not watch.over:
            left_s = end - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            if await watch.changed(within_s=left_s):
                row = await self._in_turn(watch, partial(self._task, who))
                answer = answer if row is None else task_response(row)
        return answer

    async def follow(
        self, who: Watcher, watch: Subscription, *, since: int
    ) -> AsyncGenerator[TaskUpdate | None]:
        """The task's news as they come, until it has ended; None as a sign of life where there are none.

        It ends early when the watch is over or the caller has lost the right to see the task. An outage
        of Postgres only delays it.

        Raises:
            NotFound, Unauthenticated: at the beginning, as for the status.
        """
        async with self._readers:
            news: TaskUpdate | None = await self._news(who, since)
        cursor, look = since, False
        while True:
            yield news
            if news is not None:
                if news.last:
                    return
                cursor, look = news.cursor, news.more
                news = None  # nothing but the cursor is kept while nothing happens
                if not look:
                    await asyncio.sleep(REST_S)
            look = look or await watch.changed(within_s=self._patience_s())
            if watch.over:
                return
            try:
                news = await self._in_turn(
                    watch, partial(self._news, who, cursor) if look else partial(self._permit, who)
                )
            except (Unauthenticated, Forbidden, NotFound):
                return
            except Exception as error:
                if not is_outage(error):
                    raise
                _log.warning("follow.delayed", task_id=str(who.task_id), error=str(error))
                look = True
                await watch.changed(within_s=OUTAGE_RETRY_S)

    async def output(self, who: Watcher, *, since: int) -> AsyncGenerator[TaskUpdate]:
        """The log from number `since` up to its present end, page by page; the first page may be empty.

        Raises:
            NotFound, Unauthenticated: as for the status.
        """
        task = await self._task(who)
        while True:
            news = await self._page(task, since)
            yield news
            if not news.lines:
                return
            since = news.cursor

    async def _in_turn(self, watch: Subscription, step: Callable[[], Awaitable[T | None]]) -> T | None:
        """What the step reads, one of few at a time; None for those who have left before their turn."""
        async with self._readers:
            return None if watch.over else await step()

    async def _news(self, who: Watcher, since: int) -> TaskUpdate:
        return await self._page(await self._task(who), since)

    async def _task(self, who: Watcher) -> TaskRow:
        return await self.tasks.status(await who.ask(), who.org_slug, who.slug, who.task_id)

    async def _permit(self, who: Watcher) -> None:
        await self.tasks.access.authorize(await who.ask(), who.org_slug, who.slug)

    async def _page(self, task: TaskRow, since: int) -> TaskUpdate:
        since = min(since, task.log_next)
        if since == task.log_next:
            return TaskUpdate(task, since, (), 0)
        take = min(PAGE_LINES, task.log_next - since)
        async with self.tasks.db.read() as connection:
            page = await logs.read(connection, task.id, since=since, take=take)
        first = page.cursor - len(page.lines)
        # Where lines have been dropped, as many newer ones come along that the task as read has not written.
        return TaskUpdate(task, first, page.lines[: max(0, task.log_next - first)], first - since)

    def _patience_s(self) -> float:
        return self.keepalive_s * random.uniform(1 - JITTER, 1)  # noqa: S311  it is no secret

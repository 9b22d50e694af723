"""The real API over a real socket, but in the test's own process and without workers.

So a test decides when a task changes, and can look at what the API holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI
from tests.support.rows import Rows, add_dataset
from tests.support.world import PASSWORD

from aerotask.api.app import create_app
from aerotask.api.serve import ApiServer, server_config
from aerotask.config import Settings
from aerotask.domain.ids import TaskId, UserId
from aerotask.domain.settings import LogLimits
from aerotask.store.accounts import users
from aerotask.store.queue import leases
from aerotask.store.queue.claims import ClaimedTask
from aerotask.store.queue.leases import Report, Success
from aerotask.wiring import Platform

KEEP = LogLimits(1000, 100_000)


@dataclass(frozen=True, slots=True)
class Served:
    """The API, a client of its administrator, and a dataset whose tasks the test itself runs."""

    app: FastAPI
    client: httpx.AsyncClient
    rows: Rows

    @property
    def platform(self) -> Platform:
        """The platform of the API."""
        platform: Platform = self.app.state.platform
        return platform

    @property
    def watches(self) -> int:
        """The number of open subscriptions."""
        return sum(len(each) for each in self.platform.watch.notifications._subscriptions.values())

    def address(self, task_id: TaskId) -> str:
        """A task's address."""
        return f"/orgs/acme/ds/acme/tasks/{task_id}"

    async def running_task(self) -> ClaimedTask:
        """A claimed task."""
        await self.rows.task()
        return await self.rows.claimed(ttl_s=3600)

    async def report(self, task: ClaimedTask, first: int, *lines: str, percent: float = 0.0) -> None:
        """Write a report of the task, as its worker does."""
        news = Report(first, lines, percent)
        async with self.rows.db.begin() as connection:
            await leases.report(connection, task.lease, news, log_limits=KEEP)

    async def succeed(self, task: ClaimedTask, first: int, *lines: str) -> None:
        """End the task as Succeeded."""
        async with self.rows.db.begin() as connection:
            await leases.finish(
                connection, task.lease, Success(), Report(first, lines), log_limits=KEEP, actor="tests"
            )


async def until(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Wait until the function returns true, while the event loop runs.

    Raises:
        TimeoutError: it doesn't in time.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Served]:
    """The API of these settings, over a migrated database without users."""
    app = create_app(settings)
    config = server_config(app, settings)
    server = ApiServer(config, app)
    serving = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or serving.done())
        port = server.servers[0].sockets[0].getsockname()[1]
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits, trust_env=False
        ) as client:
            platform: Platform = app.state.platform
            await platform.users.ensure_first_admin(PASSWORD)
            body = {"username": "admin", "password": PASSWORD}
            token = (await client.post("/users/authenticate", json=body)).json()["token"]
            client.headers["Authorization"] = f"Bearer {token}"
            async with platform.db.read() as connection:
                admin = await users.find_by_name(connection, "admin")
            assert admin is not None
            yield Served(app, client, await add_dataset(platform.db, UserId(admin.id), "acme"))
    finally:
        server.should_exit = True
        await serving

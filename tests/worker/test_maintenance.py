"""Maintenance loops: jobs run one after the other, survive errors of others, and need few connections."""

from __future__ import annotations

import asyncio

from sqlalchemy import event
from structlog.testing import capture_logs

from aerotask.config import Settings
from aerotask.db.engine import PostgresAway
from aerotask.wiring import open_platform
from aerotask.worker import maintenance


async def test_a_failing_job_is_logged_and_does_not_stop_the_others() -> None:
    came_to_its_turn = asyncio.Event()

    async def broken() -> int:
        raise RuntimeError("broken")

    async def cut_off() -> int:
        raise PostgresAway("away")

    async def sound() -> int:
        came_to_its_turn.set()
        return 0

    with capture_logs() as log:
        sweeps = asyncio.create_task(maintenance.repeat((broken, cut_off, sound), period_s=60))
        async with asyncio.timeout(10):
            await came_to_its_turn.wait()
        sweeps.cancel()
        await asyncio.gather(sweeps, return_exceptions=True)
    assert [(entry["event"], entry["log_level"]) for entry in log] == [
        ("sweep.failed", "error"),
        ("sweep.delayed", "warning"),
    ]


async def test_all_jobs_together_take_no_more_than_the_declared_connections(settings: Settings) -> None:
    many = 60
    held, most, taken, enough = 0, 0, 0, asyncio.Event()

    def out(*_: object) -> None:
        nonlocal held, most, taken
        held, taken = held + 1, taken + 1
        most = max(most, held)
        if taken >= many:
            enough.set()

    def back(*_: object) -> None:
        nonlocal held
        held -= 1

    async with open_platform(settings, application="tests", connections=20) as platform:
        pool = platform.db.engine.sync_engine.pool
        event.listen(pool, "checkout", out)
        event.listen(pool, "checkin", back)
        rounds = [
            asyncio.ensure_future(each)
            for each in maintenance.loops(platform.maintenance, period_s=0.01, blob_grace_s=0.01)
        ]
        async with asyncio.timeout(60):
            await enough.wait()
        for each in rounds:
            each.cancel()
        await asyncio.gather(*rounds, return_exceptions=True)
    assert 2 <= most <= maintenance.CONNECTIONS

"""Readiness: checks of Postgres, Redis, the storage and the workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from aerotask.blobs.blob_store import BlobStore
from aerotask.db.engine import Database
from aerotask.db.locks import live_workers
from aerotask.dispatch.dispatcher import Dispatcher

TIMEOUT_S = 3.0
OK = "ok"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state of each component, `ok` or the problem. Redis is optional for readiness: without it tasks start later."""

    postgres: str
    redis: str
    storage: str
    workers: int

    @property
    def ready(self) -> bool:
        """True if tasks can be accepted and run."""
        return self.postgres == self.redis == self.storage == OK and self.workers > 0


async def readiness(db: Database, dispatcher: Dispatcher, blobs: BlobStore) -> Readiness:
    """Checks every component."""
    workers, redis, storage = await asyncio.gather(
        _checked(_count_workers(db)),
        _checked(dispatcher.ping()),
        _checked(asyncio.to_thread(_check_writable, blobs)),
    )
    return Readiness(
        postgres=OK if isinstance(workers, int) else str(workers),
        redis=redis if isinstance(redis, str) else OK,
        storage=storage if isinstance(storage, str) else OK,
        workers=workers if isinstance(workers, int) else 0,
    )


async def _checked(check: Awaitable[int | None]) -> int | str | None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await check
    except (OSError, SQLAlchemyError) as error:
        # The reason is logged for operators; the public response doesn't contain it.
        _log.warning("readiness.check_failed", error=str(error))
        return "unreachable"


async def _count_workers(db: Database) -> int:
    async with db.read() as connection:
        return len((await connection.execute(live_workers())).all())


def _check_writable(blobs: BlobStore) -> None:
    if not os.access(blobs.work_root, os.W_OK | os.X_OK):
        raise OSError(f"{blobs.work_root} is not writable")

"""Whether the parts that work needs are there."""

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
    """The state of each part; `ok` or what is wrong. Redis may be away: it only makes tasks start later."""

    postgres: str
    redis: str
    storage: str
    workers: int

    @property
    def ready(self) -> bool:
        """Whether tasks can be taken and done."""
        return self.postgres == self.redis == self.storage == OK and self.workers > 0


async def readiness(db: Database, dispatcher: Dispatcher, blobs: BlobStore) -> Readiness:
    """Ask every part for a sign of life."""
    workers, redis, storage = await asyncio.gather(
        _tried(_count_workers(db)),
        _tried(dispatcher.ping()),
        _tried(asyncio.to_thread(_writable, blobs)),
    )
    return Readiness(
        postgres=OK if isinstance(workers, int) else str(workers),
        redis=redis if isinstance(redis, str) else OK,
        storage=storage if isinstance(storage, str) else OK,
        workers=workers if isinstance(workers, int) else 0,
    )


async def _tried(step: Awaitable[int | None]) -> int | str | None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await step
    except (OSError, SQLAlchemyError) as error:
        # The reason is for the operator; what everybody may read says only that it is so.
        _log.warning("readiness.missing", error=str(error))
        return "unreachable"


async def _count_workers(db: Database) -> int:
    async with db.read() as connection:
        return len((await connection.execute(live_workers())).all())


def _writable(blobs: BlobStore) -> None:
    if not os.access(blobs.work_root, os.W_OK | os.X_OK):
        raise OSError(f"{blobs.work_root} can't be written to")

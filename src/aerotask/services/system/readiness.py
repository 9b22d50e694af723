"""Readiness: checks of Postgres, Redis, the storage and the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from aerotask.db.engine import Database
from aerotask.db.locks import live_workers
from aerotask.dispatch.dispatcher import Dispatcher
from aerotask.services.storage.disk_check import DiskCheck
from aerotask.store.storage import installation
from aerotask.store.storage.installation import InstallationRow

TIMEOUT_S = 3.0
OK = "ok"
FULL = "full"
MISSING = "missing: mount it, or run `aerotask migrate` if it is new"
"""State of a storage without a marker file; processes wait for it."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state of each component, `ok` or the problem."""

    postgres: str
    redis: str
    storage: str
    workers: int
    held_blobs: int
    """Unnamed blobs whose removal waits for a confirmation."""

    @property
    def sweep(self) -> str:
        """The state of the removal of unnamed blobs, on which readiness doesn't depend."""
        return "needs-confirmation" if self.held_blobs else OK

    @property
    def ready(self) -> bool:
        """True if requests can be served and tasks run.

        That is so with a full storage too: files are deleted to make room, by requests that need a ready API.
        """
        return self.postgres == self.redis == OK and self.storage in {OK, FULL} and self.workers > 0


@dataclass(frozen=True, slots=True)
class _DatabaseState:
    workers: int
    installation: InstallationRow | None


@dataclass(frozen=True, slots=True)
class _StorageState:
    installation_id: UUID | None
    full: bool


async def readiness(db: Database, dispatcher: Dispatcher, disk: DiskCheck) -> Readiness:
    """Checks every component."""
    database, redis, storage = await asyncio.gather(
        _checked(_ask_database(db)),
        _checked(dispatcher.ping()),
        _checked(_check_storage(disk)),
    )
    known = database.installation if isinstance(database, _DatabaseState) else None
    return Readiness(
        postgres=database if isinstance(database, str) else OK,
        redis=redis if isinstance(redis, str) else OK,
        storage=storage if isinstance(storage, str) else _belongs(storage, known),
        workers=database.workers if isinstance(database, _DatabaseState) else 0,
        held_blobs=known.held_blobs if known else 0,
    )


async def _checked(check: Awaitable[T]) -> T | str:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await check
    except (OSError, SQLAlchemyError) as error:
        # The reason is logged for operators; the public response doesn't contain it.
        _log.warning("readiness.check_failed", error=str(error))
        return "unreachable"


async def _ask_database(db: Database) -> _DatabaseState:
    async with db.read() as connection:
        workers = len((await connection.execute(live_workers())).all())
        return _DatabaseState(workers, await installation.find(connection))


async def _check_storage(disk: DiskCheck) -> _StorageState:
    installation_id = await asyncio.to_thread(disk.blobs.installation_id)
    # Nothing is written to a storage without a marker: it isn't there.
    return _StorageState(installation_id, full=installation_id is not None and await disk.is_full())


def _belongs(storage: _StorageState, known: InstallationRow | None) -> str:
    """`ok`, or the problem with the storage; without the database only its own marker can be checked."""
    if storage.installation_id is None:
        return MISSING
    if known and known.id != storage.installation_id:
        _log.warning("readiness.storage_mismatch", marked=str(storage.installation_id))
        return "mismatch"
    return FULL if storage.full else OK

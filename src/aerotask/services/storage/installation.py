"""Installation of a database and its storage: both carry one id, so that neither is used with a stranger.

A database beside the wrong storage would take all of its blobs for orphans and remove them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import ProgrammingError

from aerotask.aio import cancel_and_wait
from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.storage_root import MARKER
from aerotask.db.engine import Database
from aerotask.db.outages import FIRST_DELAY_S, LONGEST_DELAY_S, is_outage
from aerotask.domain.errors import Unavailable
from aerotask.store.storage import installation
from aerotask.store.storage.installation import InstallationRow

_log = structlog.get_logger(__name__)

REMEDIES = (
    "Set AEROTASK_STORAGE_URL to the storage of this database (mount it if it isn't there), or AEROTASK_DATABASE_URL "
    "to the database of this storage, restored from a backup if need be. If these two do belong together, "
    "run `aerotask migrate --adopt-storage` (`aerotask up --adopt-storage` for a stack of its own)."
)


class StorageMismatch(Unavailable):
    """Database and storage don't belong together; nothing may be stored or removed until an operator decides."""

    default_code = "storage-mismatch"


@dataclass(frozen=True, slots=True)
class InstallationService:
    """Checks that database and storage belong together, and joins them at the first start."""

    db: Database
    blobs: BlobStore

    async def verify(self) -> InstallationRow:
        """Checks that the storage is the database's own; returns the installation.

        Raises:
            StorageMismatch: it is another's, or the database has no id.
            StorageAway: the storage isn't there.
        """
        try:
            async with self.db.read() as connection:
                known = await installation.find(connection)
        except ProgrammingError as error:  # no such table
            raise _not_migrated() from error
        if known is None:
            raise _not_migrated()
        marked = await asyncio.to_thread(self.blobs.require)
        if marked != known.id:
            raise _mismatch(known.id, marked)
        return known

    async def verify_until_reached(self) -> None:
        """Checks as `verify`, and again with growing pauses for as long as Postgres or the storage can't be reached.

        Raises:
            StorageMismatch: database and storage don't belong together.
        """
        pause_s = FIRST_DELAY_S
        logged: Exception | None = None
        while (outage := await self._find_outage()) is not None:
            if type(outage) is not type(logged):
                _log.warning("installation.unverified", error=str(outage))
                logged = outage
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_DELAY_S)
        if logged:
            _log.info("installation.verified")

    async def verify_before_start(self) -> None:
        """Checks as `verify`, but lets a process start during an outage, which `verified` then logs.

        Raises:
            StorageMismatch: database and storage don't belong together.
        """
        await self._find_outage()

    @asynccontextmanager
    async def verified(self, *, on_failure: Callable[[], None]) -> AsyncIterator[None]:
        """Checks beside the block, which an outage doesn't delay; a mismatch is logged and calls `on_failure`."""

        async def check() -> None:
            try:
                await self.verify_until_reached()
            except StorageMismatch as error:
                _log.error("installation.mismatch", error=error.message)
                on_failure()

        checking = asyncio.create_task(check())
        try:
            yield
        finally:
            await cancel_and_wait(checking)

    async def check_before_first_schema(self) -> None:
        """Checks that a storage may become that of a database without a schema.

        Raises:
            StorageMismatch: it holds blobs, which this database would remove.
        """
        if await asyncio.to_thread(self.blobs.is_empty):
            return
        raise _would_be_emptied()

    async def join(self, *, adopt: bool) -> None:
        """Gives database and storage one id if they have none yet, and creates the storage's folders.

        A database that names blobs and has no id (of an earlier version) adopts an unmarked storage that holds some.
        Where neither names nor holds any, nothing can be lost. Everything else needs `adopt`.

        Raises:
            StorageMismatch: they may not belong together.
        """
        async with self.db.begin() as connection:
            await installation.lock(connection)
            known = await installation.find(connection)
            marked = await asyncio.to_thread(self.blobs.installation_id)
            if known is None or known.id != marked:
                names_blobs = await installation.names_blobs(connection)
                is_empty = await asyncio.to_thread(self.blobs.is_empty)
                harmless = is_empty and not names_blobs
                earlier = known is None and marked is None and names_blobs and not is_empty
                if not (adopt or harmless or earlier):
                    if known is None and marked is None and not names_blobs:
                        raise _would_be_emptied()
                    raise _mismatch(known.id if known else None, marked)
                joined = uuid4()  # a new one, so that processes of another database with this storage stop
                await installation.replace(connection, joined)
                _log.info("installation.joined", installation_id=str(joined))
            else:
                joined = known.id
            await asyncio.to_thread(self.blobs.create, joined)

    async def _find_outage(self) -> Exception | None:
        """The outage that keeps `verify` from an answer; None once it has verified."""
        try:
            await self.verify()
        except Exception as error:
            if isinstance(error, OSError) or is_outage(error):
                return error
            raise
        return None


def _not_migrated() -> StorageMismatch:
    return StorageMismatch("The database has no installation id; run `aerotask migrate` first.")


def _would_be_emptied() -> StorageMismatch:
    return StorageMismatch(
        f"The storage holds files, and the database names none of them: it would remove them all. {REMEDIES}"
    )


def _mismatch(known: UUID | None, marked: UUID | None) -> StorageMismatch:
    if marked is None:
        fault = f"The storage has no marker file '{MARKER}': it isn't mounted, or isn't the database's"
    else:
        owner = f"installation {known}" if known else "an installation without an id"
        fault = f"The storage belongs to installation {marked}, the database to {owner}"
    return StorageMismatch(f"{fault}. {REMEDIES}")

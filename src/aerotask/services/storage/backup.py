"""Backup of an installation while it runs: the database's dump and every blob that it references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import UUID

import orjson
from sqlalchemy import func, select, text

import aerotask
from aerotask.aio import finish_in_thread
from aerotask.blobs.blob_store import BlobStore
from aerotask.blobs.pinned import PinnedBlobs, pin_blobs
from aerotask.db import locks
from aerotask.db.dump import dump_database
from aerotask.db.engine import Database
from aerotask.services.storage.backup_files import (
    DATABASE,
    LISTING,
    SECRET_KEY,
    Manifest,
    listed_blobs,
)
from aerotask.services.storage.backup_target import BackupTarget
from aerotask.services.storage.installation import InstallationService
from aerotask.store.storage.blob_references import stream_referenced

MAX_SNAPSHOTS = 5
"""Snapshots after which blobs that are still missing count as lost, not as removed by a task meanwhile."""

OnProgress = Callable[[int, int], None]
"""Called with the number of copied blobs and of all."""


@dataclass(frozen=True, slots=True)
class BackupService:
    """Backups of one installation."""

    db: Database
    blobs: BlobStore
    database_url: str
    secret_key: str
    programs: Path
    """The folder of `pg_dump`."""

    async def back_up(self, target: BackupTarget, on_progress: OnProgress) -> Manifest:
        """Writes a backup, consistent as of one moment, while tasks run; one that was interrupted is continued.

        Every blob is linked before and after the moment of the database's snapshot, so that it stays readable
        whatever is removed while the copies are made.

        Raises:
            StorageMismatch: database and storage don't belong together.
            Unavailable: pg_dump can't be run, or failed.
            OSError: the target can't be written.
        """
        installation = await InstallationService(self.db, self.blobs).verify()
        pinned = await pin_blobs(self.blobs)
        try:
            missing = await self._dump(pinned)
            return await finish_in_thread(
                lambda: self._copy(pinned.folder, target, missing, installation.id, on_progress)
            )
        finally:
            await pinned.release()

    async def _dump(self, pinned: PinnedBlobs) -> set[str]:
        """Dump the database into the folder of the pinned blobs, with the listing; the blobs that are missing."""
        await self._pin_referenced(pinned)
        snapshots = 1
        while (missing := await self._dump_snapshot(pinned, may_retry=snapshots < MAX_SNAPSHOTS)) is None:
            snapshots += 1
        return missing

    async def _dump_snapshot(self, pinned: PinnedBlobs, *, may_retry: bool) -> set[str] | None:
        """Dump one snapshot; None if a blob of it is missing and another snapshot may be without it."""
        async with self.db.begin() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            await locks.disable_transaction_timeout(connection)
            snapshot = (await connection.execute(select(func.pg_export_snapshot()))).scalar_one()
            missing = set()
            with (pinned.folder / LISTING).open("wb") as listing:
                async for blob in stream_referenced(connection):
                    if await self._pin(pinned, blob.key):
                        _list(listing, blob.key, blob.sha256)
                    else:
                        missing.add(blob.key)
            if missing and may_retry:
                return None
            file = pinned.folder / DATABASE
            await locks.run_locked(
                connection,
                lambda: dump_database(self.database_url, file, programs=self.programs, snapshot=snapshot),
            )
        return missing

    async def _pin_referenced(self, pinned: PinnedBlobs) -> None:
        """Link what is referenced now, so that few blobs are left to be linked after the snapshot."""
        async with self.db.begin() as connection:
            await locks.disable_transaction_timeout(connection)
            async for blob in stream_referenced(connection):
                await self._pin(pinned, blob.key)

    async def _pin(self, pinned: PinnedBlobs, key: str) -> bool:
        try:
            await self.blobs.link_to(key, pinned.folder / key)
        except FileExistsError:
            return True
        except FileNotFoundError:
            return False
        return True

    def _copy(
        self,
        pinned: Path,
        target: BackupTarget,
        missing: set[str],
        installation_id: UUID,
        on_progress: OnProgress,
    ) -> Manifest:
        blobs = list(listed_blobs(pinned / LISTING))
        stored, copied, damaged, size_bytes = target.stored_keys(), set(), set(), 0
        for number, (key, sha256) in enumerate(blobs, start=1):
            if key in stored or target.add_blob(key, pinned / key, sha256):
                copied.add(key)
                size_bytes += (pinned / key).stat().st_size
            else:
                damaged.add(key)
            on_progress(number, len(blobs))
        key_file = pinned / SECRET_KEY
        key_file.write_text(self.secret_key, encoding="utf-8")
        for name in (DATABASE, LISTING, SECRET_KEY):
            target.add_file(name, pinned / name)
        manifest = Manifest(
            version=aerotask.__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            installation_id=str(installation_id),
            blobs=len(copied),
            size_bytes=size_bytes,
            missing=tuple(sorted(missing)),
            damaged=tuple(sorted(damaged)),
        )
        target.complete(manifest, copied)
        return manifest


def _list(listing: IO[bytes], key: str, sha256: str) -> None:
    listing.write(orjson.dumps({"key": key, "sha256": sha256}) + b"\n")

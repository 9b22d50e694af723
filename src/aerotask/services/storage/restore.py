"""Restoration of a backup into an empty database and an empty storage."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

from sqlalchemy import text

from aerotask.blobs.local import LocalBlobs
from aerotask.db.dump import restore_database
from aerotask.db.engine import Database
from aerotask.db.migrate import upgrade
from aerotask.domain.errors import Conflict, InvalidInput
from aerotask.services.storage.backup import OnProgress
from aerotask.services.storage.backup_files import DATABASE, LISTING, listed_blobs
from aerotask.services.storage.backup_source import BackupSource
from aerotask.store.storage import installation

_TABLES = text("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")


@dataclass(frozen=True, slots=True)
class RestoreService:
    """Restorations into one installation that is still empty."""

    db: Database
    blobs: LocalBlobs
    database_url: str
    programs: Path
    """The folder of `pg_restore`."""

    async def restore(self, source: BackupSource, on_progress: OnProgress) -> None:
        """Copies every blob, checked by its hash, and then loads the database.

        A restoration that was interrupted is continued: its blobs are skipped.

        Raises:
            Conflict: the database isn't empty, or the storage has blobs that the backup doesn't have.
            InvalidInput: a blob of the backup is missing or damaged.
            Unavailable: pg_restore can't be run, or failed.
        """
        async with self.db.read() as connection:
            if (await connection.execute(_TABLES)).scalar_one():
                raise Conflict(
                    "The database isn't empty. Restore into a new one: set AEROTASK_DATABASE_URL, or choose "
                    "another folder with --data.",
                    code="target-not-empty",
                )
        with TemporaryDirectory(prefix="aerotask-restore-") as folder:
            for name in (DATABASE, LISTING):
                await asyncio.to_thread(source.copy_file, name, Path(folder, name))
            await asyncio.to_thread(self._copy_blobs, source, Path(folder, LISTING), on_progress)
            await restore_database(self.database_url, Path(folder, DATABASE), programs=self.programs)
        await upgrade(self.db)  # the backup may be of an older version
        await self._become_another_installation()

    async def _become_another_installation(self) -> None:
        """Give database and storage a new id, so that neither is taken for that of the backup, which may still run."""
        new = uuid4()
        async with self.db.begin() as connection:
            await installation.replace(connection, new)
        await asyncio.to_thread(self.blobs.create, new)

    def _copy_blobs(self, source: BackupSource, listing: Path, on_progress: OnProgress) -> None:
        damaged = set(source.manifest.damaged)  # they were so when the backup was made
        blobs = {key: sha256 for key, sha256 in listed_blobs(listing) if key not in damaged}
        stored = set() if self.blobs.is_empty() else {key for batch in self.blobs.all_keys() for key in batch}
        if foreign := stored - blobs.keys():
            raise Conflict(
                f"The storage isn't empty: it has {len(foreign)} files that aren't in the backup. Restore into a "
                "new folder: set AEROTASK_STORAGE_URL, or choose another folder with --data.",
                code="target-not-empty",
            )
        self.blobs.create(UUID(source.manifest.installation_id))
        for number, (key, sha256) in enumerate(blobs.items(), start=1):
            if key not in stored:
                self._copy_blob(source, key, sha256)
            on_progress(number, len(blobs))

    def _copy_blob(self, source: BackupSource, key: str, sha256: str) -> None:
        fault = "is damaged"
        try:
            with source.open_blob(key) as content:
                if self.blobs.adopt(key, content, sha256=sha256):
                    return
        except FileNotFoundError:
            fault = "is missing"
        raise InvalidInput(f"Blob {key} of the backup {fault}; nothing was restored.", code="backup-damaged")

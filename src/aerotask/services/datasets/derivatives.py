"""Derivatives of a dataset's entries: list, open."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.blobs.blob_store import BlobStore, OpenBlob
from aerotask.blobs.missing import content_missing
from aerotask.db.engine import Database
from aerotask.derivatives.kinds import OVERVIEWS, DerivativeKind
from aerotask.derivatives.sources import paths_beside, source_key
from aerotask.domain import paths
from aerotask.domain.access import Caller
from aerotask.domain.errors import InvalidInput, NotFound
from aerotask.domain.ids import DatasetId
from aerotask.services.accounts.permissions import PermissionService
from aerotask.store.datasets import derivatives, entries
from aerotask.store.datasets.derivatives import DerivativeRow
from aerotask.store.datasets.entries import FOLDER


@dataclass(frozen=True, slots=True)
class OpenDerivative:
    """A derivative with its open content."""

    row: DerivativeRow
    content: OpenBlob
    allows_anonymous: bool
    """Whether its dataset may be read without credentials."""


@dataclass(frozen=True, slots=True)
class DerivativeService:
    """Read access to the derivatives of current entries, for readers of the dataset."""

    db: Database
    blobs: BlobStore
    access: PermissionService

    async def list_of(self, caller: Caller, org_slug: str, slug: str, path: str) -> list[DerivativeRow]:
        """The derivatives of the entry at `path`, by kind.

        Raises:
            NotFound: there is no entry at the path.
            InvalidInput: the entry is a folder.
        """
        target = paths.entry_path(path)
        dataset = (await self.access.dataset(caller, org_slug, slug)).row
        async with self.db.read() as connection:
            return await _rows_of(connection, dataset.id, target)

    async def open(
        self, caller: Caller, org_slug: str, slug: str, path: str, kind: DerivativeKind
    ) -> OpenDerivative:
        """Opens the derivative of that kind for reading.

        Raises:
            NotFound: there is no entry at the path, or it has no derivative of that kind.
            InvalidInput: the entry is a folder.
            Unavailable: its content is missing from the storage.
        """
        target = paths.entry_path(path)
        dataset = await self.access.dataset(caller, org_slug, slug)
        blob_key = ""
        for _ in range(3):
            async with self.db.read() as connection:
                rows = await _rows_of(connection, dataset.row.id, target)
            row = next((row for row in rows if row.kind == kind), None)
            if row is None:
                raise NotFound(
                    f"{paths.shown(path)} has no derivative '{kind}'; submit a task that builds it.",
                    code="no-such-derivative",
                )
            # Rebuilt between the query and the opening: query again.
            blob_key = row.blob_key
            with contextlib.suppress(FileNotFoundError):
                content = await self.blobs.open(blob_key, size_bytes=row.size_bytes)
                return OpenDerivative(row, content, dataset.allows_anonymous)
        raise content_missing(blob_key)


async def _rows_of(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> list[DerivativeRow]:
    entry = await entries.find(connection, dataset_id, path)
    if entry is None:
        raise NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
    if entry.type == FOLDER:
        raise InvalidInput(f"{paths.shown(path)} is a folder; name a file.", code="not-a-file")
    sidecar_paths = paths_beside(path)
    sidecars = await entries.find_named(connection, dataset_id, sidecar_paths) if sidecar_paths else []
    hashes = {row.path: row.sha256 for row in (entry, *sidecars) if row.type != FOLDER}
    hashes |= dict(await derivatives.find_textures(connection, dataset_id, path))
    rows = await derivatives.find_of(connection, dataset_id, source_key(path, hashes))
    return [row for row in rows if row.kind != OVERVIEWS]

"""Check of all stored blobs against their rows, and repair of damaged ones from a copy of the storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from aerotask.blobs.blob_store import BlobStore
from aerotask.db.engine import Database
from aerotask.domain.errors import ContentDamaged
from aerotask.store.storage import blob_references, damaged_blobs, storage_checks
from aerotask.store.storage.blob_references import ReferencedBlob
from aerotask.store.storage.storage_checks import CheckProgress

PAGE = 512
AT_ONCE = 4
"""Blobs that are read at the same time."""
SAVED_EVERY = 16
"""Blobs whose hashes are compared between two saves of the progress: an interrupted check repeats at most these."""


@dataclass(frozen=True, slots=True)
class FoundDamage:
    """A blob that isn't what its rows say, with the entries, derivatives and artifacts that have it."""

    blob_key: str
    owners: tuple[str, ...]
    reason: str
    repaired: bool


CheckEvent: TypeAlias = CheckProgress | FoundDamage


@dataclass(frozen=True, slots=True)
class StorageVerifier:
    """Check of every blob that rows reference: of its length, and if `deep` of its hash.

    Damaged blobs are recorded, and replaced by their copies in the storage folder `repair_from` if those are intact.
    """

    db: Database
    blobs: BlobStore
    on_event: Callable[[CheckEvent], None]
    deep: bool = field(default=False, kw_only=True)
    repair_from: Path | None = field(default=None, kw_only=True)
    _seen: set[str] = field(default_factory=set)
    """Blobs that were known to be damaged, and have been checked already."""

    async def run(self, *, restart: bool) -> CheckProgress:
        """Checks the blobs in the order of their keys, unless `restart` is set from where the last check was interrupted.

        Blobs that are known to be damaged come first; their hashes are compared in any case.
        """
        depth = "hashes" if self.deep else "lengths"
        await self._check_known()
        async with self.db.read() as connection:
            progress = CheckProgress() if restart else await storage_checks.find(connection, depth)
        self.on_event(progress)
        at_once = SAVED_EVERY if self.deep else PAGE
        while page := await self._page(progress.after_key):
            for begin in range(0, len(page), at_once):
                progress = await self._check_next(page[begin : begin + at_once], progress)
                async with self.db.begin() as connection:
                    await storage_checks.save(connection, depth, progress)
                self.on_event(progress)
        async with self.db.begin() as connection:
            await storage_checks.end(connection, depth)
            await damaged_blobs.forget_unneeded(connection)
        return progress

    async def _page(self, after_key: str) -> list[ReferencedBlob]:
        async with self.db.read() as connection:
            return await blob_references.list_after(connection, after_key, max_count=PAGE)

    async def _check_known(self) -> None:
        async with self.db.read() as connection:
            keys = await damaged_blobs.list_keys(connection)
            known = await blob_references.list_among(connection, keys)
        damaged = await self._check_all(known, deep=True)
        async with self.db.begin() as connection:
            await damaged_blobs.forget(connection, {reference.key for reference in known} - damaged)
        self._seen.update(reference.key for reference in known)

    async def _check_next(self, batch: Sequence[ReferencedBlob], progress: CheckProgress) -> CheckProgress:
        await self._check_all([each for each in batch if each.key not in self._seen], deep=self.deep)
        return replace(
            progress,
            after_key=batch[-1].key,
            blobs=progress.blobs + len(batch),
            size_bytes=progress.size_bytes + sum(each.size_bytes or 0 for each in batch),
        )

    async def _check_all(self, references: Sequence[ReferencedBlob], *, deep: bool) -> set[str]:
        """Checks, repairs and records the blobs; returns the keys of those that remain damaged."""
        turns = asyncio.Semaphore(AT_ONCE)
        checks = [self._find_damage(reference, turns, deep=deep) for reference in references]
        found = [damage for damage in await asyncio.gather(*checks) if damage is not None]
        remaining: dict[str, str] = {}
        for damage, reference in await self._still_referenced(found):
            repaired = await self._repair(reference)
            if not repaired:
                remaining[damage.blob_key] = damage.reason
            self.on_event(await self._describe(damage, repaired=repaired))
        async with self.db.begin() as connection:
            await damaged_blobs.record(connection, remaining)
        return set(remaining)

    async def _find_damage(
        self, reference: ReferencedBlob, turns: asyncio.Semaphore, *, deep: bool
    ) -> ContentDamaged | None:
        async with turns:
            return await self.blobs.find_damage(
                reference.key, size_bytes=reference.size_bytes, sha256=reference.sha256 if deep else None
            )

    async def _still_referenced(
        self, found: Sequence[ContentDamaged]
    ) -> list[tuple[ContentDamaged, ReferencedBlob]]:
        """The damages with their references, without the blobs that were deleted while they were checked."""
        async with self.db.read() as connection:
            references = await blob_references.list_among(connection, [damage.blob_key for damage in found])
        by_key = {reference.key: reference for reference in references}
        return [(damage, by_key[damage.blob_key]) for damage in found if damage.blob_key in by_key]

    async def _repair(self, reference: ReferencedBlob) -> bool:
        if self.repair_from is None:
            return False
        return await self.blobs.repair(reference.key, self.repair_from, sha256=reference.sha256)

    async def _describe(self, damage: ContentDamaged, *, repaired: bool) -> FoundDamage:
        async with self.db.read() as connection:
            owners = await blob_references.list_owners(connection, damage.blob_key)
        return FoundDamage(damage.blob_key, tuple(owners), damage.reason, repaired)

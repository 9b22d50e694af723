"""Source selection: the files to render for an entry, its COG derivative if there is one, else the original and its overviews."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.derivatives.kinds import OVERVIEWS, DerivativeKind, lacks_overviews
from aerotask.domain import paths
from aerotask.domain.errors import InvalidInput, NotFound
from aerotask.domain.ids import DatasetId
from aerotask.raster.profile import RasterProfile
from aerotask.store.datasets import derivatives
from aerotask.store.datasets.derivatives import StoredContent
from aerotask.store.datasets.entries import EntryRow
from aerotask.tiles.renderer import RasterSource, RenderSource


def content_of(row: EntryRow) -> RenderSource:
    """The entry's original content.

    Raises:
        InvalidInput: the entry is a folder (`not-a-file`).
    """
    if row.blob_key is None:
        raise InvalidInput(f"{paths.shown(row.path)} is a folder; use the path of a file.", code="not-a-file")
    return RenderSource(row.blob_key, row.sha256, row.size_bytes)


@dataclass(frozen=True, slots=True)
class FoundRaster:
    """An entry with the derivatives that it is drawn from."""

    row: EntryRow
    made: Mapping[str, StoredContent]
    """By kind."""

    @property
    def is_final(self) -> bool:
        """Whether the entry's pictures stay as they are: no overviews are still to come, as far as the index knows."""
        return bool(self.made) or (
            self.row.indexed and not lacks_overviews(self.row.type, self.row.properties)
        )

    def raster(self) -> RasterSource:
        """Its contents: value ranges come from the original, pixels from its COG if there is one.

        Raises:
            InvalidInput: the entry is a folder (`not-a-file`).
        """
        original = content_of(self.row)
        profile = RasterProfile.from_properties(self.row.properties)
        side = profile.side_georeference if profile else None
        if DerivativeKind.COG in self.made:
            return RasterSource(original, _content(self.made[DerivativeKind.COG]), side=side)
        overviews = self.made.get(OVERVIEWS)
        return RasterSource(original, original, None if overviews is None else _content(overviews), side)


async def find_raster(connection: AsyncConnection, dataset_id: DatasetId, path: str) -> FoundRaster:
    """The entry at `path`, with its COG and its overviews, if any.

    Raises:
        NotFound: there is no entry at the path.
    """
    found = await derivatives.find_with(connection, dataset_id, path, [DerivativeKind.COG, OVERVIEWS])
    if found is None:
        raise NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
    return FoundRaster(*found)


def _content(stored: StoredContent) -> RenderSource:
    return RenderSource(stored.blob_key, stored.sha256, stored.size_bytes)

"""Source selection: the file to render for an entry, its COG derivative if there is one, else the original."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.derivatives.kinds import DerivativeKind
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


async def find_raster(
    connection: AsyncConnection, dataset_id: DatasetId, path: str
) -> tuple[EntryRow, StoredContent | None]:
    """The entry at `path`, and its COG derivative, if any.

    Raises:
        NotFound: there is no entry at the path.
    """
    found = await derivatives.find_with(connection, dataset_id, path, DerivativeKind.COG)
    if found is None:
        raise NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
    return found


def raster_of(row: EntryRow, cog: StoredContent | None) -> RasterSource:
    """The raster of an entry: value ranges come from the original, pixels from its COG if there is one.

    Raises:
        InvalidInput: the entry is a folder (`not-a-file`).
    """
    original = content_of(row)
    tiled = original if cog is None else RenderSource(cog.blob_key, cog.sha256, cog.size_bytes)
    profile = RasterProfile.from_properties(row.properties)
    return RasterSource(original, tiled, profile.side_georeference if profile else None)

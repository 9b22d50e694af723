"""Which stored content is drawn: what is best to read for a picture, of an entry's own and what was made of it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.derivatives.kinds import DerivativeKind
from aerotask.domain import paths
from aerotask.domain.errors import InvalidInput, NotFound
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets import derivatives
from aerotask.store.datasets.derivatives import StoredContent
from aerotask.store.datasets.entries import EntryRow
from aerotask.tiles.renderer import RasterSource, RenderSource


def content_of(row: EntryRow) -> RenderSource:
    """An entry's own content.

    Raises:
        InvalidInput: it is a folder (`not-a-file`).
    """
    if row.blob_key is None:
        raise InvalidInput(f"{paths.shown(row.path)} is a folder; name a file.", code="not-a-file")
    return RenderSource(row.blob_key, row.sha256)


async def find_raster(
    connection: AsyncConnection, dataset_id: DatasetId, path: str
) -> tuple[EntryRow, StoredContent | None]:
    """The entry at `path`, and the COG that was built of it. No raster has files beside it that count.

    Raises:
        NotFound: there is nothing at the path.
    """
    found = await derivatives.find_with(connection, dataset_id, path, DerivativeKind.COG)
    if found is None:
        raise NotFound(f"The dataset has no entry {paths.shown(path)}.", code="no-such-entry")
    return found


def raster_of(row: EntryRow, cog: StoredContent | None) -> RasterSource:
    """The raster of an entry: its colours follow from its own content, its pixels come from the best there is.

    Raises:
        InvalidInput: it is a folder (`not-a-file`).
    """
    own = content_of(row)
    return RasterSource(source=own, drawn=own if cog is None else RenderSource(cog.blob_key, cog.sha256))

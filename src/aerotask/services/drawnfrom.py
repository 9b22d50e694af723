"""Which stored content is drawn: what is best to read for a picture, of an entry's own and what was made of it."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.derivatives.sources import source_key
from aerotask.domain import paths
from aerotask.domain.errors import InvalidInput
from aerotask.domain.ids import DatasetId
from aerotask.rendering.renderer import Content, Raster
from aerotask.store import derivatives
from aerotask.store.entries import EntryRow


def content_of(row: EntryRow) -> Content:
    """An entry's own content.

    Raises:
        InvalidInput: it is a folder (`not-a-file`).
    """
    if row.blob_key is None:
        raise InvalidInput(f"{paths.shown(row.path)} is a folder; name a file.", code="not-a-file")
    return Content(row.blob_key, row.sha256)


async def raster_of(connection: AsyncConnection, dataset_id: DatasetId, row: EntryRow) -> Raster:
    """The raster of an entry: its colours follow from its own content, its pixels come from the best there is.

    This is the one place that knows of derivatives.
    """
    own = content_of(row)
    key = source_key(row.path, {row.path: row.sha256})
    built = await derivatives.find_of(connection, dataset_id, key)
    cog = next((derivative for derivative in built if derivative.kind == "cog"), None)
    return Raster(source=own, drawn=own if cog is None else Content(cog.blob_key, cog.sha256))

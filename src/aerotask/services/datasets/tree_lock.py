"""The lock under which the shape of a dataset's tree changes."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.locks import LockSpace
from aerotask.domain.errors import NotFound
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets import datasets


async def lock_tree(connection: AsyncConnection, dataset_id: DatasetId) -> None:
    """The shape of a dataset's tree changes under one lock, so that no file ever gets entries below it.

    Raises:
        NotFound: the dataset has been deleted; it won't be from now on, until the transaction ends.
    """
    if not await datasets.hold(connection, dataset_id):
        raise NotFound("The dataset has been deleted meanwhile.")
    await locks.take(connection, LockSpace.ENTRIES, locks.key_of(dataset_id.bytes[-4:]))

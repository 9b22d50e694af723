"""Lock for changes to the tree of a dataset's entries."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from aerotask.db import locks
from aerotask.db.locks import LockSpace
from aerotask.domain.errors import NotFound
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets import datasets


async def lock_tree(connection: AsyncConnection, dataset_id: DatasetId) -> None:
    """Locks the tree until the transaction ends: otherwise concurrent changes could place entries below a file.

    The dataset can't be deleted while it is locked.

    Raises:
        NotFound: the dataset has been deleted.
    """
    if not await datasets.hold(connection, dataset_id):
        raise NotFound("The dataset has been deleted.")
    await locks.take(connection, LockSpace.ENTRIES, locks.key_of(dataset_id.bytes[-4:]))

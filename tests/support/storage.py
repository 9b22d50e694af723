"""Storages of tests: marked as belonging to the databases that are copied from the template, or away for a while."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from aerotask.blobs.local import LocalBlobs
from aerotask.db.engine import Database
from aerotask.store.storage import unnamed_blobs

INSTALLATION = UUID("5b1c6a4e-0f0e-4a5e-9d1a-000000000001")


def new_storage(root: Path) -> LocalBlobs:
    """An empty storage in the folder, as `aerotask migrate` creates it."""
    blobs = LocalBlobs(root)
    blobs.create(INSTALLATION)
    return blobs


async def seen_unnamed(database: Database, blob_keys: Iterable[str], *, ago_s: float) -> None:
    """Let maintenance have seen these blobs without a name for the first time so long ago."""
    keys = list(blob_keys)
    async with database.begin() as connection:
        await unnamed_blobs.add(connection, keys)
        aged = text(
            "UPDATE unnamed_blobs SET seen_at = now() - make_interval(secs => :ago_s) WHERE blob_key = ANY(:keys)"
        )
        await connection.execute(aged, {"ago_s": ago_s, "keys": keys})


@contextmanager
def vanished(storage: Path, *, mount_point: bool) -> Iterator[None]:
    """The storage is not there during the block; after an unmount an empty folder is in its place.

    Raises:
        AssertionError: something was made in its place.
    """
    away = storage.with_name("away")
    storage.rename(away)
    if mount_point:
        storage.mkdir()
    try:
        yield
    finally:
        made = sorted(storage.rglob("*")), storage.exists()
        shutil.rmtree(storage, ignore_errors=True)
        away.rename(storage)
    assert made == ([], mount_point)

"""Check of the stored blobs: in the order of their keys, resumed where it was interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.storage import new_storage

from aerotask.blobs.local import LocalBlobs
from aerotask.db.engine import Database
from aerotask.services.datasets.contents import put_contents
from aerotask.services.storage import storage_check
from aerotask.services.storage.storage_check import CheckEvent, FoundDamage, StorageVerifier
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.storage.storage_checks import CheckProgress

NAMES = ("a", "b", "c", "d", "e")


class Interrupted(Exception):
    """The check was stopped."""


@pytest.fixture
async def rows(database: Database) -> Rows:
    return await add_dataset(database, await add_user(database, "owner"), "acme")


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return new_storage(tmp_path)


async def stored(rows: Rows, blobs: LocalBlobs) -> list[str]:
    """Five entries and two more that share their blobs; the keys in their order."""

    async def once(content: bytes) -> AsyncIterator[bytes]:
        yield content

    contents = {}
    for name in NAMES:
        blob = await blobs.put(once(name.encode() * 10), limit_bytes=100)
        contents[name] = EntryContent(blob.key, blob.sha256, blob.size_bytes, "generic")
    shared = {f"copy of {name}": contents[name] for name in ("a", "c")}
    async with rows.db.begin() as connection:
        await put_contents(connection, rows.dataset_id, contents | shared)
    return sorted(content.blob_key for content in contents.values())


def spoil(folder: Path, key: str) -> None:
    """One byte of the blob's file is changed."""
    file = folder / "blobs" / key[-2:] / key
    file.chmod(0o600)
    file.write_bytes(b"X" + file.read_bytes()[1:])


async def test_an_interrupted_check_goes_on_where_it_stopped(
    rows: Rows, blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_check, "SAVED_EVERY", 2)
    monkeypatch.setattr(storage_check, "PAGE", 3)
    keys = await stored(rows, blobs)
    spoil(tmp_path, keys[1])

    def stop_at_two(event: CheckEvent) -> None:
        if isinstance(event, CheckProgress) and event.blobs == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        await StorageVerifier(rows.db, blobs, stop_at_two, deep=True).run(restart=False)
    spoil(tmp_path, keys[0])
    spoil(tmp_path, keys[4])

    events: list[CheckEvent] = []
    done = await StorageVerifier(rows.db, blobs, events.append, deep=True).run(restart=False)
    assert [event.blobs for event in events if isinstance(event, CheckProgress)] == [2, 4, 5]
    assert (done.blobs, done.size_bytes) == (5, 50)
    # The first was found before the interruption and is compared again; the change before it went unseen.
    assert [each.blob_key for each in events if isinstance(each, FoundDamage)] == [keys[1], keys[4]]

    again: list[CheckEvent] = []
    await StorageVerifier(rows.db, blobs, again.append, deep=True).run(restart=False)
    assert {each.blob_key for each in again if isinstance(each, FoundDamage)} == {keys[0], keys[1], keys[4]}


async def test_damage_is_reported_with_every_entry_that_has_the_blob(
    rows: Rows, blobs: LocalBlobs, tmp_path: Path
) -> None:
    keys = await stored(rows, blobs)
    (tmp_path / "blobs" / keys[0][-2:] / keys[0]).unlink()
    events: list[CheckEvent] = []
    await StorageVerifier(rows.db, blobs, events.append).run(restart=False)
    (damage,) = (event for event in events if isinstance(event, FoundDamage))
    assert damage.reason == "its file is missing"
    assert sorted(owner.rpartition("/")[2] for owner in damage.owners) == ["a", "copy of a"]

"""Resumable uploads without HTTP: their time, their number, and what a crash between two steps leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from tests.support.callers import always
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.clock import db_now
from aerotask.db.models import Entry, Upload
from aerotask.domain.access import Caller
from aerotask.domain.errors import Conflict, LimitReached, NotFound
from aerotask.domain.ids import UploadId, new_id
from aerotask.services.datasets.uploads import UploadProgress, UploadService
from aerotask.store.datasets import datasets
from aerotask.wiring import Platform

LONG_AGO_S = 2 * 3600


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


@dataclass
class Harbour:
    """Uploads of one owner to one dataset."""

    platform: Platform
    rows: Rows
    folder: Path
    uploads: UploadService

    @property
    def owner(self) -> Caller:
        return Caller(self.rows.user_id, "owner")

    async def announce(self, path: str, size_bytes: int) -> UploadId:
        made = await self.uploads.create(
            self.owner, "acme", "acme", path=path, size_bytes=size_bytes, client_metadata=""
        )
        return made.row.id

    async def send(self, upload_id: UploadId, offset: int, *content: bytes) -> UploadProgress:
        return await self.uploads.append(
            always(self.owner),
            "acme",
            "acme",
            upload_id,
            offset=offset,
            content=pieces(*content),
            announced_bytes=sum(map(len, content)),
        )

    async def look(self, upload_id: UploadId) -> UploadProgress:
        return await self.uploads.look(self.owner, "acme", "acme", upload_id)

    async def hashes(self) -> dict[str, str]:
        async with self.rows.db.read() as connection:
            rows = await connection.execute(select(Entry.path, Entry.sha256))
            return {row[0]: row[1] for row in rows}

    async def count(self) -> int:
        async with self.rows.db.read() as connection:
            return int((await connection.execute(select(func.count(Upload.id)))).scalar_one())

    async def expire(self) -> None:
        async with self.rows.db.begin() as connection:
            await connection.execute(update(Upload).values(expires_at=db_now()))


@pytest.fixture
async def harbour(platform: Platform, tmp_path: Path) -> Harbour:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    return Harbour(platform, rows, tmp_path / "storage" / "uploads", platform.uploads)


async def test_every_part_prolongs_an_upload_and_after_its_time_it_is_gone(harbour: Harbour) -> None:
    upload_id = await harbour.announce("a", 4)
    async with harbour.rows.db.begin() as connection:
        await connection.execute(update(Upload).values(expires_at=db_now(plus_s=60)))
    before = (await harbour.look(upload_id)).expires_at
    assert (await harbour.send(upload_id, 0, b"01")).expires_at > before
    await harbour.expire()
    with pytest.raises(NotFound):
        await harbour.look(upload_id)
    with pytest.raises(NotFound):
        await harbour.send(upload_id, 2, b"23")


async def test_a_long_part_keeps_its_upload_from_expiring(harbour: Harbour) -> None:
    upload_id = await harbour.announce("a", 3)
    restless = replace(harbour.uploads, prolong_every_s=0.0)
    seen: list[object] = []

    async def slowly() -> AsyncIterator[bytes]:
        for piece in (b"0", b"1", b"2"):
            async with harbour.rows.db.read() as connection:
                seen.append((await connection.execute(select(Upload.expires_at))).scalar_one())
            yield piece

    await restless.append(
        always(harbour.owner), "acme", "acme", upload_id, offset=0, content=slowly(), announced_bytes=3
    )
    assert len(set(seen)) == 3


async def test_no_user_opens_uploads_without_end(harbour: Harbour) -> None:
    harbour.uploads = replace(harbour.uploads, limits=replace(harbour.uploads.limits, open_per_user=2))
    first, _ = [await harbour.announce(path, 1) for path in ("a", "b")]
    with pytest.raises(LimitReached) as refused:
        await harbour.announce("c", 1)
    assert (refused.value.limit_name, refused.value.limit, refused.value.current) == (
        "maxOpenUploadsPerUser",
        2,
        2,
    )
    await harbour.send(first, 0, b"x")
    await harbour.announce("c", 1)
    assert await harbour.count() == 3


async def test_racing_announcements_do_not_exceed_their_number(harbour: Harbour) -> None:
    harbour.uploads = replace(harbour.uploads, limits=replace(harbour.uploads.limits, open_per_user=5))
    done = await asyncio.gather(
        *(harbour.announce(str(number), 1) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(outcome, LimitReached) for outcome in done) == 15
    assert await harbour.count() == 5


async def test_a_crash_after_the_last_byte_is_made_good_by_whoever_asks_how_far_it_is(
    harbour: Harbour,
) -> None:
    upload_id = await harbour.announce("a", 4)
    # What a process has written that died before it made the entry.
    (harbour.folder / str(upload_id)).write_bytes(b"0123")
    assert (await harbour.look(upload_id)).offset == 4
    assert await harbour.hashes() == {"a": hashlib.sha256(b"0123").hexdigest()}
    assert list(harbour.folder.iterdir()) == []
    assert (await harbour.look(upload_id)).offset == 4


async def test_several_who_ask_at_that_moment_make_one_entry(harbour: Harbour) -> None:
    upload_id = await harbour.announce("a", 4)
    (harbour.folder / str(upload_id)).write_bytes(b"0123")
    outcomes = await asyncio.gather(*(harbour.look(upload_id) for _ in range(8)), return_exceptions=True)
    assert {type(outcome).__name__ for outcome in outcomes} <= {"Progress", "Locked"}
    assert [outcome.offset for outcome in outcomes if isinstance(outcome, UploadProgress)]
    assert await harbour.hashes() == {"a": hashlib.sha256(b"0123").hexdigest()}


async def test_a_crash_between_blob_and_row_costs_nothing_but_a_blob_for_the_sweep(
    harbour: Harbour, tmp_path: Path
) -> None:
    upload_id = await harbour.announce("a", 4)
    file = harbour.folder / str(upload_id)
    file.write_bytes(b"0123")
    left = await harbour.platform.blobs.ingest_copy(file, sha256=hashlib.sha256(b"0123").hexdigest())
    assert (await harbour.look(upload_id)).offset == 4
    assert await harbour.hashes() == {"a": hashlib.sha256(b"0123").hexdigest()}
    for blob in (tmp_path / "storage" / "blobs").rglob("*"):
        os.utime(blob, (0, 0))
    assert await harbour.platform.maintenance.orphans() == 1
    with pytest.raises(FileNotFoundError):
        await harbour.platform.blobs.open(left.key)
    opened = await harbour.platform.entries.open_file(harbour.owner, "acme", "acme", "a")
    assert b"".join([piece async for piece in opened.content.chunks(0, 4)]) == b"0123"
    await opened.content.close()


async def test_a_dataset_that_is_deleted_while_the_bytes_come_takes_nothing(harbour: Harbour) -> None:
    upload_id = await harbour.announce("a", 4)

    async def deleting() -> AsyncIterator[bytes]:
        yield b"01"
        await harbour.platform.datasets.delete_dataset(harbour.owner, "acme", "acme")
        yield b"23"

    with pytest.raises(NotFound):
        await harbour.uploads.append(
            always(harbour.owner), "acme", "acme", upload_id, offset=0, content=deleting(), announced_bytes=4
        )
    assert await harbour.hashes() == {}
    assert await harbour.platform.maintenance.deleted() == 1
    assert await harbour.count() == 0
    os.utime(harbour.folder / str(upload_id), (0, 0))
    assert await harbour.platform.maintenance.expired_uploads() == 1
    assert list(harbour.folder.iterdir()) == []


async def test_expired_uploads_are_swept_with_their_files_and_others_stay(harbour: Harbour) -> None:
    expired = await harbour.announce("expired", 4)
    await harbour.send(expired, 0, b"01")
    complete = await harbour.announce("complete", 2)
    await harbour.send(complete, 0, b"01")
    await harbour.expire()
    stays = await harbour.announce("stays", 4)
    await harbour.send(stays, 0, b"01")
    for file in harbour.folder.iterdir():
        then = time.time() - LONG_AGO_S
        os.utime(file, (then, then))
    assert [await harbour.platform.maintenance.expired_uploads() for _ in range(2)] == [2, 0]
    assert [file.name for file in harbour.folder.iterdir()] == [str(stays)]
    assert await harbour.count() == 1
    assert set(await harbour.hashes()) == {"complete"}


async def test_files_that_belong_to_no_upload_are_swept_after_the_grace_time(harbour: Harbour) -> None:
    old, young = (harbour.folder / str(new_id()) for _ in range(2))
    for file in (old, young):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    assert [await harbour.platform.maintenance.expired_uploads() for _ in range(2)] == [1, 0]
    assert list(harbour.folder.iterdir()) == [young]


async def test_an_upload_whose_file_got_lost_begins_anew_and_says_so(harbour: Harbour) -> None:
    upload_id = await harbour.announce("a", 4)
    await harbour.send(upload_id, 0, b"01")
    (harbour.folder / str(upload_id)).unlink()
    assert (await harbour.look(upload_id)).offset == 0
    with pytest.raises(Conflict):
        await harbour.send(upload_id, 2, b"23")
    await harbour.send(upload_id, 0, b"4567")
    assert await harbour.hashes() == {"a": hashlib.sha256(b"4567").hexdigest()}


async def test_an_upload_follows_its_renamed_dataset(harbour: Harbour) -> None:
    upload_id = await harbour.announce("a", 4)
    async with harbour.rows.db.begin() as connection:
        await datasets.rename(connection, harbour.rows.dataset_id, slug="renamed")
    with pytest.raises(NotFound):
        await harbour.look(upload_id)
    assert (await harbour.uploads.look(harbour.owner, "acme", "renamed", upload_id)).offset == 0

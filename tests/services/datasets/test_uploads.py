"""Resumable uploads without HTTP: expiry, number, and crashes between two steps."""

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
from tests.support.storage import seen_unnamed

from aerotask.db.clock import db_now
from aerotask.db.models import Entry, Upload
from aerotask.domain.access import Caller
from aerotask.domain.errors import Conflict, LimitReached, NotFound
from aerotask.domain.ids import UploadId, new_id
from aerotask.services.datasets.uploads import UploadProgress, UploadService
from aerotask.store.datasets import datasets
from aerotask.wiring import Platform

LONG_AGO_S = 2 * 3600


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@dataclass
class UploadSetup:
    """Uploads of an owner to a dataset."""

    platform: Platform
    rows: Rows
    folder: Path
    uploads: UploadService

    @property
    def owner(self) -> Caller:
        return Caller(self.rows.user_id, "owner")

    async def announce(self, path: str, size_bytes: int) -> UploadId:
        created = await self.uploads.create(
            self.owner, "acme", "acme", path=path, size_bytes=size_bytes, client_metadata=""
        )
        return created.row.id

    async def send(self, upload_id: UploadId, offset: int, *content: bytes) -> UploadProgress:
        return await self.uploads.append(
            always(self.owner),
            "acme",
            "acme",
            upload_id,
            offset=offset,
            content=stream(*content),
            announced_bytes=sum(map(len, content)),
        )

    async def status(self, upload_id: UploadId) -> UploadProgress:
        return await self.uploads.status(self.owner, "acme", "acme", upload_id)

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
async def setup(platform: Platform, tmp_path: Path) -> UploadSetup:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    return UploadSetup(platform, rows, tmp_path / "storage" / "uploads", platform.uploads)


async def test_every_request_extends_the_expiry_and_an_expired_upload_is_not_found(
    setup: UploadSetup,
) -> None:
    upload_id = await setup.announce("a", 4)
    async with setup.rows.db.begin() as connection:
        await connection.execute(update(Upload).values(expires_at=db_now(plus_s=60)))
    before = (await setup.status(upload_id)).expires_at
    assert (await setup.send(upload_id, 0, b"01")).expires_at > before
    await setup.expire()
    with pytest.raises(NotFound):
        await setup.status(upload_id)
    with pytest.raises(NotFound):
        await setup.send(upload_id, 2, b"23")


async def test_a_long_request_extends_the_expiry_while_it_lasts(setup: UploadSetup) -> None:
    upload_id = await setup.announce("a", 3)
    uploads = replace(setup.uploads, extend_every_s=0.0)
    seen: list[object] = []

    async def slowly() -> AsyncIterator[bytes]:
        for chunk in (b"0", b"1", b"2"):
            async with setup.rows.db.read() as connection:
                seen.append((await connection.execute(select(Upload.expires_at))).scalar_one())
            yield chunk

    await uploads.append(
        always(setup.owner), "acme", "acme", upload_id, offset=0, content=slowly(), announced_bytes=3
    )
    assert len(set(seen)) == 3


async def test_the_number_of_open_uploads_per_user_is_limited(setup: UploadSetup) -> None:
    setup.uploads = replace(setup.uploads, limits=replace(setup.uploads.limits, open_per_user=2))
    first, _ = [await setup.announce(path, 1) for path in ("a", "b")]
    with pytest.raises(LimitReached) as refused:
        await setup.announce("c", 1)
    assert (refused.value.limit_name, refused.value.limit, refused.value.current) == (
        "maxOpenUploadsPerUser",
        2,
        2,
    )
    await setup.send(first, 0, b"x")
    await setup.announce("c", 1)
    assert await setup.count() == 3


async def test_concurrent_announcements_do_not_exceed_the_limit(setup: UploadSetup) -> None:
    setup.uploads = replace(setup.uploads, limits=replace(setup.uploads.limits, open_per_user=5))
    done = await asyncio.gather(
        *(setup.announce(str(number), 1) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(outcome, LimitReached) for outcome in done) == 15
    assert await setup.count() == 5


async def test_a_status_request_completes_an_upload_after_a_crash_behind_its_last_byte(
    setup: UploadSetup,
) -> None:
    upload_id = await setup.announce("a", 4)
    # The file of a process that died before it created the entry.
    (setup.folder / str(upload_id)).write_bytes(b"0123")
    assert (await setup.status(upload_id)).offset == 4
    assert await setup.hashes() == {"a": hashlib.sha256(b"0123").hexdigest()}
    assert list(setup.folder.iterdir()) == []
    assert (await setup.status(upload_id)).offset == 4


async def test_concurrent_status_requests_create_one_entry(setup: UploadSetup) -> None:
    upload_id = await setup.announce("a", 4)
    (setup.folder / str(upload_id)).write_bytes(b"0123")
    outcomes = await asyncio.gather(*(setup.status(upload_id) for _ in range(8)), return_exceptions=True)
    assert {type(outcome).__name__ for outcome in outcomes} <= {"UploadProgress", "Locked"}
    assert [outcome.offset for outcome in outcomes if isinstance(outcome, UploadProgress)]
    assert await setup.hashes() == {"a": hashlib.sha256(b"0123").hexdigest()}


async def test_a_crash_between_blob_and_row_leaves_only_an_orphan_blob(
    setup: UploadSetup, tmp_path: Path
) -> None:
    upload_id = await setup.announce("a", 4)
    file = setup.folder / str(upload_id)
    file.write_bytes(b"0123")
    left = await setup.platform.blobs.ingest_copy(file, sha256=hashlib.sha256(b"0123").hexdigest())
    assert (await setup.status(upload_id)).offset == 4
    assert await setup.hashes() == {"a": hashlib.sha256(b"0123").hexdigest()}
    await seen_unnamed(setup.platform.db, [left.key], ago_s=2 * 3600)
    assert await setup.platform.maintenance.remove_orphans() == 1
    with pytest.raises(FileNotFoundError):
        await setup.platform.blobs.open(left.key, size_bytes=left.size_bytes)
    opened = await setup.platform.entries.open_file(setup.owner, "acme", "acme", "a")
    assert b"".join([chunk async for chunk in opened.content.chunks(0, 4)]) == b"0123"
    await opened.content.close()


async def test_an_upload_to_a_dataset_deleted_meanwhile_is_not_found(setup: UploadSetup) -> None:
    upload_id = await setup.announce("a", 4)

    async def deleting() -> AsyncIterator[bytes]:
        yield b"01"
        await setup.platform.datasets.delete_dataset(setup.owner, "acme", "acme")
        yield b"23"

    with pytest.raises(NotFound):
        await setup.uploads.append(
            always(setup.owner), "acme", "acme", upload_id, offset=0, content=deleting(), announced_bytes=4
        )
    assert await setup.hashes() == {}
    assert await setup.platform.maintenance.remove_deleted() == 1
    assert await setup.count() == 0
    os.utime(setup.folder / str(upload_id), (0, 0))
    assert await setup.platform.maintenance.remove_expired_uploads() == 1
    assert list(setup.folder.iterdir()) == []


async def test_expired_uploads_are_removed_with_their_files_and_others_stay(setup: UploadSetup) -> None:
    expired = await setup.announce("expired", 4)
    await setup.send(expired, 0, b"01")
    complete = await setup.announce("complete", 2)
    await setup.send(complete, 0, b"01")
    await setup.expire()
    stays = await setup.announce("stays", 4)
    await setup.send(stays, 0, b"01")
    for file in setup.folder.iterdir():
        then = time.time() - LONG_AGO_S
        os.utime(file, (then, then))
    assert [await setup.platform.maintenance.remove_expired_uploads() for _ in range(2)] == [2, 0]
    assert [file.name for file in setup.folder.iterdir()] == [str(stays)]
    assert await setup.count() == 1
    assert set(await setup.hashes()) == {"complete"}


async def test_files_without_an_upload_are_removed_after_the_grace_time(setup: UploadSetup) -> None:
    old, young = (setup.folder / str(new_id()) for _ in range(2))
    for file in (old, young):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    assert [await setup.platform.maintenance.remove_expired_uploads() for _ in range(2)] == [1, 0]
    assert list(setup.folder.iterdir()) == [young]


async def test_an_upload_whose_file_is_lost_starts_at_offset_0(setup: UploadSetup) -> None:
    upload_id = await setup.announce("a", 4)
    await setup.send(upload_id, 0, b"01")
    (setup.folder / str(upload_id)).unlink()
    assert (await setup.status(upload_id)).offset == 0
    with pytest.raises(Conflict):
        await setup.send(upload_id, 2, b"23")
    await setup.send(upload_id, 0, b"4567")
    assert await setup.hashes() == {"a": hashlib.sha256(b"4567").hexdigest()}


async def test_an_upload_follows_its_renamed_dataset(setup: UploadSetup) -> None:
    upload_id = await setup.announce("a", 4)
    async with setup.rows.db.begin() as connection:
        await datasets.rename(connection, setup.rows.dataset_id, slug="renamed")
    with pytest.raises(NotFound):
        await setup.status(upload_id)
    assert (await setup.uploads.status(setup.owner, "acme", "renamed", upload_id)).offset == 0

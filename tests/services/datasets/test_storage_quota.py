"""Storage quota: never exceeded by concurrent uploads, announcements and copies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.support.callers import always, permit
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.config import Settings
from aerotask.domain.access import Caller
from aerotask.domain.errors import LimitReached, TooLarge
from aerotask.domain.ids import UploadId
from aerotask.domain.settings import StorageQuota
from aerotask.services.accounts.permissions import Grant
from aerotask.services.datasets.storage_quota import headroom_for, within_limits
from aerotask.store.datasets import entry_writes, orgs
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.tasks import usage
from aerotask.wiring import Platform, open_platform

LIMIT = 1000


async def content(size_bytes: int) -> AsyncIterator[bytes]:
    yield b"x" * size_bytes


@dataclass
class Store:
    """A platform with a storage quota, and a dataset."""

    platform: Platform
    rows: Rows

    @property
    def owner(self) -> Caller:
        return Caller(self.rows.user_id, "owner")

    @property
    def permit(self) -> Grant:
        return permit(self.platform.access, self.owner, self.rows.dataset_id)

    async def put(self, path: str, size_bytes: int, *, announced_bytes: int = 0) -> None:
        await self.platform.entries.put(
            self.permit, path, content(size_bytes), announced_bytes=announced_bytes
        )

    async def append_all(self, upload_id: UploadId, size: int) -> None:
        await self.platform.uploads.append(
            always(self.owner),
            "acme",
            "acme",
            upload_id,
            offset=0,
            content=content(size),
            announced_bytes=size,
        )

    async def announce(self, path: str, size_bytes: int) -> Any:
        return await self.platform.uploads.create(
            self.owner, "acme", "acme", path=path, size_bytes=size_bytes, client_metadata=""
        )

    async def copy(self, source: str, dest: str) -> None:
        await self.platform.tree.copy(self.owner, "acme", "acme", source=source, dest=dest)

    async def used(self) -> int:
        async with self.rows.db.read() as connection:
            return (await usage.stored_in_org(connection, self.rows.org_id)).total_bytes


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    limited = settings.model_copy(update={"storage": StorageQuota(bytes_per_org=LIMIT)})
    async with open_platform(limited, application="tests") as platform:
        rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
        yield Store(platform, rows)


async def outcomes(*steps: Awaitable[object]) -> Counter[str]:
    done = await asyncio.gather(*steps, return_exceptions=True)
    return Counter(
        "refused" if isinstance(outcome, LimitReached) else type(outcome).__name__ for outcome in done
    )


async def test_the_quota_can_be_reached_but_not_exceeded(store: Store) -> None:
    await store.put("a", 600)
    with pytest.raises(LimitReached) as refused:
        await store.put("b", 401)
    error = refused.value
    assert (error.code, error.limit_name, error.limit, error.current) == (
        "storage-quota-exceeded",
        "maxStorageBytesPerOrg",
        1000,
        600,
    )
    await store.put("b", 400)
    assert await store.used() == 1000


async def test_a_refused_put_leaves_no_blob(store: Store) -> None:
    await store.put("a", 600)
    with pytest.raises(LimitReached):
        await store.put("b", 401)
    batches = list(store.platform.blobs.all_keys())
    assert [len(batch) for batch in batches] == [1]


async def test_the_headroom_may_be_negative(store: Store) -> None:
    async def left(**limits: int | None) -> int | None:
        async with store.rows.db.read() as connection:
            headroom = await headroom_for(connection, StorageQuota(**limits), store.rows.dataset_id)
        return headroom.left_bytes

    await store.put("a", 600)
    assert await left() is None
    assert await left(bytes_per_org=1000) == 400
    assert await left(bytes_per_org=1000, bytes_per_user=700) == 100
    assert await left(bytes_per_org=500) == -100


async def test_an_announced_size_beyond_the_quota_is_refused_before_the_body_is_read(store: Store) -> None:
    await store.put("a", 600)

    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x" * 401)
        yield read[0]

    with pytest.raises(LimitReached):
        await store.platform.entries.put(store.permit, "b", body(), announced_bytes=401)
    assert read == []


async def test_a_replacement_counts_only_its_additional_bytes(store: Store) -> None:
    await store.put("a", 900)
    await store.put("a", 1000, announced_bytes=1000)
    await store.put("a", 10)
    assert await store.used() == 10


async def test_concurrent_uploads_fill_the_quota_and_never_exceed_it(store: Store) -> None:
    assert await outcomes(*(store.put(str(number), 99) for number in range(25))) == {
        "NoneType": 10,
        "refused": 15,
    }
    assert await store.used() == 990


async def test_concurrent_announcements_copies_and_uploads_share_the_quota(store: Store) -> None:
    await store.put("a", 90)
    steps: list[Awaitable[object]] = []
    for number in range(10):
        steps += [
            store.put(f"put-{number}", 90),
            store.announce(f"upload-{number}", 90),
            store.copy("a", f"copy-{number}"),
        ]
    done = await outcomes(*steps)
    assert (done.total() - done["refused"], await store.used()) == (10, 990)


async def test_an_announced_upload_counts_until_it_is_cancelled(store: Store) -> None:
    progress = await store.announce("a", 1000)
    with pytest.raises(LimitReached):
        await store.put("b", 1)
    await store.platform.uploads.terminate(store.owner, "acme", "acme", progress.row.id)
    await store.put("b", 1000)


async def test_a_complete_upload_counts_once(store: Store) -> None:
    progress = await store.announce("a", 1000)
    await store.append_all(progress.row.id, 1000)
    assert await store.used() == 1000


async def test_an_upload_that_replaces_a_file_counts_only_its_additional_bytes(store: Store) -> None:
    await store.put("a", 900)
    progress = await store.announce("a", 1000)
    assert await store.used() == 1000
    with pytest.raises(LimitReached):
        await store.put("b", 1)
    # After a rename the upload would no longer replace the file.
    with pytest.raises(LimitReached):
        await store.platform.tree.rename(store.owner, "acme", "acme", source="a", dest="b")
    await store.append_all(progress.row.id, 1000)
    assert await store.used() == 1000


async def test_freeing_bytes_is_allowed_beyond_a_lowered_limit(store: Store) -> None:
    await store.put("a", 600)
    await store.put("b", 300)
    lowered = StorageQuota(bytes_per_org=100)
    dataset_id = store.rows.dataset_id
    async with store.rows.db.begin() as connection, within_limits(connection, lowered, dataset_id):
        await entry_writes.remove_within(connection, dataset_id, "a")

    async def add_one_byte() -> None:
        async with store.rows.db.begin() as connection, within_limits(connection, lowered, dataset_id):
            await entry_writes.put_file(connection, dataset_id, "c", EntryContent("k", "00", 1, "generic"))

    with pytest.raises(LimitReached):
        await add_one_byte()
    assert await store.used() == 300


async def test_a_deleted_dataset_frees_its_bytes_at_once(store: Store) -> None:
    await store.put("a", 1000)
    await store.platform.datasets.delete_dataset(store.owner, "acme", "acme")
    assert await store.used() == 0


async def test_a_users_quota_counts_all_organizations_they_own(settings: Settings) -> None:
    limited = settings.model_copy(update={"storage": StorageQuota(bytes_per_user=LIMIT)})
    async with open_platform(limited, application="tests") as platform:
        owner = await add_user(platform.db, "owner")
        one, two = [await add_dataset(platform.db, owner, slug) for slug in ("one", "two")]
        other = await add_dataset(platform.db, await add_user(platform.db, "other"), "other")

        async def put(rows: Rows, path: str) -> None:
            await platform.entries.put(
                permit(platform.access, Caller(rows.user_id, ""), rows.dataset_id), path, content(90)
            )

        steps = [put(rows, str(number)) for number in range(10) for rows in (one, two)]
        assert await outcomes(*steps) == {"NoneType": 11, "refused": 9}
        await put(other, "a")
        async with platform.db.begin() as connection:
            await orgs.transfer_org(connection, two.org_id, other.user_id)
        await put(one, "now there is room")


async def test_a_transfer_beyond_the_new_owners_quota_is_refused(settings: Settings) -> None:
    limited = settings.model_copy(update={"storage": StorageQuota(bytes_per_user=LIMIT)})
    async with open_platform(limited, application="tests") as platform:
        heir = await add_user(platform.db, "heir")
        stores = [
            Store(platform, await add_dataset(platform.db, await add_user(platform.db, slug), slug))
            for slug in ("one", "two")
        ]

        async def transfer(store: Store, slug: str) -> None:
            owner = Caller(store.rows.user_id, slug)
            await platform.orgs.update_org(
                owner, slug, name="", description="", is_public=False, owner="heir"
            )

        for store in stores:
            await store.put("a", 501)
        await transfer(stores[0], "one")
        with pytest.raises(LimitReached) as refused:
            await transfer(stores[1], "two")
        error = refused.value
        assert (error.limit_name, error.limit, error.current) == ("maxStorageBytesPerUser", 1000, 501)
        async with platform.db.read() as connection:
            assert (await usage.stored_of_owner(connection, heir)).total_bytes == 501


async def test_a_transfer_waits_for_bytes_being_added(store: Store) -> None:
    heir = await add_user(store.platform.db, "heir")
    limits = StorageQuota(bytes_per_user=LIMIT)

    async def transfer() -> None:
        async with store.platform.db.begin() as connection:
            await orgs.transfer_org(connection, store.rows.org_id, heir)

    async with (
        store.platform.db.begin() as connection,
        within_limits(connection, limits, store.rows.dataset_id),
    ):
        transferring = asyncio.create_task(transfer())
        done, _ = await asyncio.wait({transferring}, timeout=0.2)
        assert not done
    await transferring


async def test_a_stream_of_unknown_length_is_stopped_at_the_quota(store: Store) -> None:
    await store.put("a", 600)
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 100
            yield b"x" * 100

    with pytest.raises(LimitReached) as refused:
        await store.platform.entries.put(store.permit, "b", endless())
    assert (refused.value.code, read) == ("storage-quota-exceeded", 500)
    with pytest.raises(LimitReached):
        await store.platform.entries.put(store.permit, "a", endless())
    assert read == 500 + 1100


async def test_an_entry_of_unknown_path_may_replace_all_stored_bytes(store: Store) -> None:
    await store.put("a", 600)
    headroom = await store.platform.entries.headroom_anywhere(store.rows.dataset_id)
    headroom.check(1000)
    with pytest.raises(LimitReached):
        headroom.check(1001)


async def test_an_announced_size_beyond_the_object_limit_is_refused_before_the_body_is_read(
    store: Store,
) -> None:
    entries_ = replace(store.platform.entries, max_object_bytes=10, storage=StorageQuota())

    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x" * 11)
        yield read[0]

    with pytest.raises(TooLarge):
        await entries_.put(store.permit, "b", body(), announced_bytes=11)
    assert read == []

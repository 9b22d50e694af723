"""Deleting, renaming and transferring organizations and datasets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from tests.support.callers import permit
from tests.support.rows import Rows, add_dataset, add_user
from tests.support.storage import seen_unnamed

from aerotask.db.models import (
    Artifact,
    AuditEvent,
    Dataset,
    Entry,
    Organization,
    Task,
    TaskLogLine,
    Upload,
)
from aerotask.domain.access import ANONYMOUS, Access, Caller, Membership, Visibility
from aerotask.domain.errors import Conflict, Forbidden, InvalidInput, LimitReached, NotFound
from aerotask.domain.settings import LogLimits
from aerotask.services.accounts.permissions import Grant
from aerotask.services.datasets import deletion
from aerotask.services.datasets.datasets import DatasetService
from aerotask.services.datasets.orgs import OrgService
from aerotask.services.datasets.storage_quota import UNBOUNDED
from aerotask.services.tasks.quota import QuotaRequest
from aerotask.store.accounts import users
from aerotask.store.datasets import datasets
from aerotask.store.queue import leases
from aerotask.store.queue.clear import TASKS_PER_TRANSACTION
from aerotask.store.queue.leases import LeaseLost, Report, Success
from aerotask.wiring import Platform

KEEP = LogLimits(100, 10_000)


@dataclass
class OrgSetup:
    """A platform with one owner's organization and dataset."""

    platform: Platform
    rows: Rows
    root: Path

    @property
    def orgs(self) -> OrgService:
        return self.platform.orgs

    @property
    def datasets(self) -> DatasetService:
        return self.platform.datasets

    @property
    def owner(self) -> Caller:
        return Caller(self.rows.user_id, "owner")

    @property
    def permit(self) -> Grant:
        return permit(self.platform.access, self.owner, self.rows.dataset_id)

    async def put(self, path: str) -> None:
        async def content() -> AsyncIterator[bytes]:
            yield path.encode()

        await self.platform.entries.put(self.permit, path, content())

    async def counts(self) -> dict[str, int]:
        async with self.rows.db.read() as connection:
            return {
                table.__tablename__: (
                    await connection.execute(select(func.count()).select_from(table))
                ).scalar_one()
                for table in (Organization, Dataset, Entry, Task, TaskLogLine, Artifact, Upload)
            }

    def blobs(self) -> list[Path]:
        return [file for file in (self.root / "blobs").rglob("*") if file.is_file()]

    async def states(self) -> list[str]:
        async with self.rows.db.read() as connection:
            return list((await connection.execute(select(Task.state))).scalars())


@pytest.fixture
async def setup(platform: Platform, tmp_path: Path) -> OrgSetup:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    return OrgSetup(platform, rows, tmp_path / "storage")


async def test_a_deleted_dataset_is_hidden_at_once_and_its_slug_is_free(setup: OrgSetup) -> None:
    await setup.put("a.txt")
    await setup.datasets.delete_dataset(setup.owner, "acme", "acme")
    for slug in ("acme", f"--{setup.rows.dataset_id}"):
        with pytest.raises(NotFound):
            await setup.platform.access.dataset(setup.owner, "acme", slug)
    assert await setup.datasets.list_datasets(setup.owner, "acme") == []
    rights = await setup.platform.access.rights_of_user(setup.rows.user_id, setup.rows.dataset_id)
    assert rights == frozenset()
    again = await setup.datasets.create_dataset(
        setup.owner, "acme", slug="acme", name="", tagline="", visibility=Visibility.PRIVATE
    )
    assert again.id != setup.rows.dataset_id


async def test_deleting_a_dataset_cancels_its_tasks_and_revokes_their_leases(setup: OrgSetup) -> None:
    await setup.rows.task(unique_id="mine")
    running = await setup.rows.claimed()
    await setup.rows.task()
    await setup.datasets.delete_dataset(setup.owner, "acme", "acme")
    assert await setup.states() == ["Deleted", "Deleted"]

    async def report() -> None:
        async with setup.rows.db.begin() as connection:
            await leases.report(connection, running.lease, Report(0, ("still here",)), log_limits=KEEP)

    with pytest.raises(LeaseLost):
        await report()
    async with setup.rows.db.read() as connection:
        assert set((await connection.execute(select(Task.unique_id))).scalars()) == {None}
        history = (await connection.execute(select(Task.history))).scalars().first()
    assert history is not None
    assert (history[-1]["by"], history[-1]["reason"]) == ("owner", "dataset deleted")


async def test_maintenance_removes_every_row_and_after_the_grace_time_every_blob(setup: OrgSetup) -> None:
    for number in range(3):
        await setup.put(f"a/{number}.txt")
    await setup.rows.task()
    task = await setup.rows.claimed()
    blob = await setup.platform.entries.receive(_bytes(b"made"), UNBOUNDED)
    async with setup.rows.db.begin() as connection:
        await leases.finish(
            connection,
            task.lease,
            Success(artifacts=[leases.NewArtifact("a", "text/plain", blob.key, 4, "00", 60)]),
            Report(0, ("done",)),
            log_limits=KEEP,
            actor="tests",
        )
    await setup.platform.uploads.create(
        setup.owner, "acme", "acme", path="b", size_bytes=5, client_metadata=""
    )
    await setup.datasets.delete_dataset(setup.owner, "acme", "acme")
    assert [await setup.platform.maintenance.remove_deleted() for _ in range(2)] == [1, 0]
    assert await setup.counts() == {
        "organizations": 1,
        "datasets": 0,
        "entries": 0,
        "tasks": 0,
        "task_log": 0,
        "artifacts": 0,
        "uploads": 0,
    }
    # The artifact's file went with its row; contents of entries stay for the grace time.
    assert (len(setup.blobs()), await setup.platform.maintenance.remove_orphans()) == (3, 0)
    await seen_unnamed(setup.platform.db, [file.name for file in setup.blobs()], ago_s=2 * 3600)
    assert await setup.platform.maintenance.remove_orphans() == 3
    assert setup.blobs() == []


async def _bytes(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_large_dataset_is_removed_in_batches(setup: OrgSetup) -> None:
    async with setup.rows.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO entries (id, dataset_id, path, parent, depth, type) "
                "SELECT gen_random_uuid(), :dataset, n::text, '', 0, 'directory' FROM generate_series(1, :n) n"
            ),
            {"dataset": setup.rows.dataset_id, "n": deletion.ENTRIES + 1},
        )
    for _ in range(TASKS_PER_TRANSACTION + 1):
        await setup.rows.task()
    await setup.datasets.delete_dataset(setup.owner, "acme", "acme")
    assert await setup.platform.maintenance.remove_deleted() == 1
    counts = await setup.counts()
    assert (counts["datasets"], counts["entries"], counts["tasks"]) == (0, 0, 0)


async def test_deleting_an_organization_deletes_its_datasets(setup: OrgSetup) -> None:
    await setup.datasets.create_dataset(
        setup.owner, "acme", slug="second", name="", tagline="", visibility=Visibility.PUBLIC
    )
    await setup.put("a.txt")
    await setup.rows.task()
    await setup.orgs.delete_org(setup.owner, "acme")
    for slug in ("acme", "second"):
        with pytest.raises(NotFound):
            await setup.platform.access.dataset(setup.owner, "acme", slug)
    with pytest.raises(NotFound):
        await setup.platform.access.org(setup.owner, "acme")
    assert await setup.orgs.list_orgs(setup.owner) == []
    assert await setup.states() == ["Deleted"]
    await setup.orgs.create_org(setup.owner, slug="acme", name="", description="", is_public=False)
    assert [await setup.platform.maintenance.remove_deleted() for _ in range(2)] == [3, 0]
    assert await setup.counts() == {
        "organizations": 1,
        "datasets": 0,
        "entries": 0,
        "tasks": 0,
        "task_log": 0,
        "artifacts": 0,
        "uploads": 0,
    }


async def test_a_task_submitted_during_the_deletion_is_cancelled_by_maintenance(setup: OrgSetup) -> None:
    async with setup.rows.db.begin() as connection:
        await datasets.delete_dataset(connection, setup.rows.dataset_id)
    await setup.rows.task()
    await setup.rows.claimed()
    assert await setup.platform.maintenance.remove_deleted() == 1
    assert await setup.states() == []


async def test_a_submit_after_maintenance_finds_no_dataset(setup: OrgSetup) -> None:
    late = setup.rows.new_task()
    quota = QuotaRequest(late.org_id, late.user_id, late.estimated_output_bytes)
    await setup.datasets.delete_dataset(setup.owner, "acme", "acme")
    await setup.platform.maintenance.remove_deleted()
    async with setup.rows.db.engine.connect() as connection:
        with pytest.raises(NotFound):
            await setup.platform.submit._add(connection, setup.owner, late, quota)


async def test_an_upload_that_ends_after_the_deletion_of_its_dataset_leaves_no_blob(
    setup: OrgSetup,
) -> None:
    async def deleting() -> AsyncIterator[bytes]:
        yield b"first half"
        await setup.datasets.delete_dataset(setup.owner, "acme", "acme")
        yield b"second half"

    with pytest.raises(NotFound):
        await setup.platform.entries.put(setup.permit, "a.txt", deleting())
    assert setup.blobs() == []


async def test_the_deletion_waits_for_a_change_in_progress(setup: OrgSetup) -> None:
    async with setup.rows.db.begin() as connection:
        assert await datasets.hold(connection, setup.rows.dataset_id)
        deleting = asyncio.create_task(setup.datasets.delete_dataset(setup.owner, "acme", "acme"))
        done, _ = await asyncio.wait({deleting}, timeout=0.2)
        assert not done
    await deleting
    async with setup.rows.db.begin() as connection:
        assert not await datasets.hold(connection, setup.rows.dataset_id)


async def test_changing_the_name_does_not_undo_a_new_slug(setup: OrgSetup) -> None:
    row = (await setup.platform.access.dataset(setup.owner, "acme", "acme")).row
    await setup.datasets.rename_dataset(setup.owner, "acme", "acme", to_slug="renamed")
    async with setup.rows.db.begin() as connection:
        await datasets.update_dataset(
            connection, row.id, name="new name", tagline="", visibility=Visibility.PUBLIC
        )
    renamed = (await setup.platform.access.dataset(setup.owner, "acme", "renamed")).row
    assert (renamed.name, renamed.visibility) == ("new name", Visibility.PUBLIC)


async def test_a_taken_slug_is_refused_with_its_location(setup: OrgSetup) -> None:
    await setup.datasets.create_dataset(
        setup.owner, "acme", slug="other", name="", tagline="", visibility=Visibility.PRIVATE
    )
    with pytest.raises(Conflict) as refused:
        await setup.datasets.rename_dataset(setup.owner, "acme", "acme", to_slug="other")
    assert refused.value.location == "/orgs/acme/ds/other"


async def transfer(setup: OrgSetup, caller: Caller, to: str) -> None:
    await setup.orgs.update_org(caller, "acme", name="Acme", description="", is_public=False, owner=to)


async def test_an_owner_who_transfers_an_organization_stays_an_administrator(setup: OrgSetup) -> None:
    heir = Caller(await add_user(setup.rows.db, "heir"), "heir")
    await setup.orgs.set_member(setup.owner, "acme", user_name="heir", permissions=Membership.READ_ONLY)
    await transfer(setup, setup.owner, "heir")
    row = await setup.platform.access.org(heir, "acme", to=Access.ADMIN)
    assert row.owner == "heir"
    members = await setup.orgs.list_members(heir, "acme")
    assert [(member.user_name, member.permissions) for member in members] == [("owner", "admin")]
    with pytest.raises(Forbidden):
        await transfer(setup, setup.owner, "owner")
    await transfer(setup, heir, "heir")


async def test_only_the_owner_transfers_an_organization_and_only_to_an_active_user(setup: OrgSetup) -> None:
    deputy = Caller(await add_user(setup.rows.db, "deputy"), "deputy")
    gone = await add_user(setup.rows.db, "gone")
    async with setup.rows.db.begin() as connection:
        await users.set_roles(connection, gone, is_admin=False, is_deactivated=True)
    await setup.orgs.set_member(setup.owner, "acme", user_name="deputy", permissions=Membership.ADMIN)
    with pytest.raises(Forbidden):
        await transfer(setup, deputy, "deputy")
    for name in ("nobody", "gone"):
        with pytest.raises(InvalidInput):
            await transfer(setup, setup.owner, name)
    system = Caller(gone, "root", is_admin=True)
    await transfer(setup, system, "deputy")
    assert (await setup.platform.access.org(deputy, "acme")).owner == "deputy"


async def actions(setup: OrgSetup) -> list[tuple[str, str, object]]:
    async with setup.rows.db.read() as connection:
        columns = (AuditEvent.action, AuditEvent.target, AuditEvent.details)
        return [tuple(row) for row in await connection.execute(select(*columns).order_by(AuditEvent.id))]


async def test_changes_of_visibility_are_in_the_audit_log(setup: OrgSetup) -> None:
    orgs = setup.orgs
    await orgs.create_org(setup.owner, slug="open", name="", description="", is_public=True)
    for is_public in (False, False):
        await orgs.update_org(setup.owner, "open", name="", description="", is_public=is_public)
    for slug, visibility in (("a", Visibility.PRIVATE), ("b", Visibility.UNLISTED)):
        await setup.datasets.create_dataset(
            setup.owner, "open", slug=slug, name="", tagline="", visibility=visibility
        )
    assert await actions(setup) == [
        ("visibility-changed", "/orgs/open", {"now": "public"}),
        ("visibility-changed", "/orgs/open", {"now": "private"}),
        ("visibility-changed", "/orgs/open/ds/b", {"now": "unlisted"}),
    ]


async def test_a_refused_update_leaves_the_organization_unchanged(setup: OrgSetup) -> None:
    with pytest.raises(InvalidInput):
        await setup.orgs.update_org(
            setup.owner, "acme", name="New", description="", is_public=True, owner="nobody"
        )
    row = await setup.platform.access.org(setup.owner, "acme")
    assert (row.name, row.is_public, await actions(setup)) == ("acme", False, [])


async def test_the_number_of_organizations_per_owner_is_limited(setup: OrgSetup) -> None:
    few = replace(setup.orgs, max_per_owner=3)

    async def create(slug: str) -> None:
        await few.create_org(setup.owner, slug=slug, name="", description="", is_public=False)

    ended = await asyncio.gather(*(create(f"org-{n}") for n in range(8)), return_exceptions=True)
    assert [type(outcome) for outcome in ended].count(LimitReached) == 6
    other = Caller(await add_user(setup.rows.db, "other"), "other")
    await few.create_org(other, slug="others", name="", description="", is_public=False)
    with pytest.raises(LimitReached) as refused:
        await few.update_org(other, "others", name="", description="", is_public=False, owner="owner")
    assert (refused.value.limit_name, refused.value.limit, refused.value.current) == ("maxOrgsPerUser", 3, 3)
    root = Caller(await add_user(setup.rows.db, "root"), "root", is_admin=True)
    for number in range(4):
        await few.create_org(root, slug=f"root-{number}", name="", description="", is_public=False)


async def test_the_list_holds_the_organizations_visible_to_the_caller(setup: OrgSetup) -> None:
    orgs = setup.orgs
    member = Caller(await add_user(setup.rows.db, "member"), "member")
    stranger = Caller(await add_user(setup.rows.db, "stranger"), "stranger")
    root = Caller(await add_user(setup.rows.db, "root"), "root", is_admin=True)
    await orgs.set_member(setup.owner, "acme", user_name="member", permissions=Membership.READ_ONLY)
    await orgs.create_org(stranger, slug="open", name="", description="", is_public=True)
    seen = {
        caller.user_name: [row.slug for row in await orgs.list_orgs(caller)]
        for caller in (ANONYMOUS, stranger, member, setup.owner, root)
    }
    assert seen == {
        None: ["open"],
        "stranger": ["open"],
        "member": ["acme", "open"],
        "owner": ["acme", "open"],
        "root": ["acme", "open"],
    }

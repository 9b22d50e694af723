"""What becomes of organizations and datasets that are deleted, renamed and given away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from tests.support.callers import permit
from tests.support.rows import Rows, add_dataset, add_user

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
from aerotask.services.accounts.permissions import Grant
from aerotask.services.datasets import deletion
from aerotask.services.datasets.orgs import OrgService
from aerotask.services.datasets.storage_quota import UNBOUNDED
from aerotask.store.accounts import users
from aerotask.store.datasets import orgs
from aerotask.store.queue import leases
from aerotask.store.queue.cancel import TASKS_AT_ONCE
from aerotask.store.queue.leases import LeaseLost, Report, Success
from aerotask.store.queue.logs import LogLimits
from aerotask.wiring import Platform

KEEP = LogLimits(100, 10_000)


@dataclass
class Estate:
    """A platform with an organization and a dataset of one owner."""

    platform: Platform
    rows: Rows
    root: Path

    @property
    def organizations(self) -> OrgService:
        return self.platform.orgs

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
async def estate(platform: Platform, tmp_path: Path) -> Estate:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    return Estate(platform, rows, tmp_path / "storage")


async def test_a_deleted_dataset_is_out_of_sight_at_once_and_its_slug_is_free(estate: Estate) -> None:
    await estate.put("a.txt")
    await estate.organizations.delete_dataset(estate.owner, "acme", "acme")
    for slug in ("acme", f"--{estate.rows.dataset_id}"):
        with pytest.raises(NotFound):
            await estate.platform.access.dataset(estate.owner, "acme", slug)
    assert await estate.organizations.list_datasets(estate.owner, "acme") == []
    rights = await estate.platform.access.rights_of_user(estate.rows.user_id, estate.rows.dataset_id)
    assert rights == frozenset()
    again = await estate.organizations.create_dataset(
        estate.owner, "acme", slug="acme", name="", tagline="", visibility=Visibility.PRIVATE
    )
    assert again.id != estate.rows.dataset_id


async def test_its_running_and_waiting_tasks_are_cancelled_and_their_leases_lost(estate: Estate) -> None:
    await estate.rows.task(unique_id="mine")
    running = await estate.rows.claimed()
    await estate.rows.task()
    await estate.organizations.delete_dataset(estate.owner, "acme", "acme")
    assert await estate.states() == ["Deleted", "Deleted"]

    async def report() -> None:
        async with estate.rows.db.begin() as connection:
            await leases.report(connection, running.lease, Report(0, ("still here",)), log_limits=KEEP)

    with pytest.raises(LeaseLost):
        await report()
    async with estate.rows.db.read() as connection:
        assert set((await connection.execute(select(Task.unique_id))).scalars()) == {None}
        history = (await connection.execute(select(Task.history))).scalars().first()
    assert history is not None
    assert (history[-1]["by"], history[-1]["reason"]) == ("owner", "dataset deleted")


async def test_the_sweep_removes_every_row_and_in_time_every_blob(estate: Estate) -> None:
    for number in range(3):
        await estate.put(f"a/{number}.txt")
    await estate.rows.task()
    task = await estate.rows.claimed()
    blob = await estate.platform.entries.receive(_bytes(b"made"), UNBOUNDED)
    async with estate.rows.db.begin() as connection:
        await leases.finish(
            connection,
            task.lease,
            Success(artifacts=[leases.NewArtifact("a", "text/plain", blob.key, 4, "00", 60)]),
            Report(0, ("done",)),
            log_limits=KEEP,
            actor="tests",
        )
    await estate.platform.uploads.create(
        estate.owner, "acme", "acme", path="b", size_bytes=5, client_metadata=""
    )
    await estate.organizations.delete_dataset(estate.owner, "acme", "acme")
    assert [await estate.platform.maintenance.deleted() for _ in range(2)] == [1, 0]
    assert await estate.counts() == {
        "organizations": 1,
        "datasets": 0,
        "entries": 0,
        "tasks": 0,
        "task_log": 0,
        "artifacts": 0,
        "uploads": 0,
    }
    # The artifact's file went with its row; contents of entries stay for the grace time.
    assert (len(estate.blobs()), await estate.platform.maintenance.orphans()) == (3, 0)
    for file in estate.blobs():
        os.utime(file, (0, 0))
    assert await estate.platform.maintenance.orphans() == 3
    assert estate.blobs() == []


async def _bytes(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_big_dataset_is_removed_piece_by_piece(estate: Estate) -> None:
    async with estate.rows.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO entries (id, dataset_id, path, parent, depth, type) "
                "SELECT gen_random_uuid(), :dataset, n::text, '', 0, 'directory' FROM generate_series(1, :n) n"
            ),
            {"dataset": estate.rows.dataset_id, "n": deletion.ENTRIES + 1},
        )
    for _ in range(TASKS_AT_ONCE + 1):
        await estate.rows.task()
    await estate.organizations.delete_dataset(estate.owner, "acme", "acme")
    assert await estate.platform.maintenance.deleted() == 1
    counts = await estate.counts()
    assert (counts["datasets"], counts["entries"], counts["tasks"]) == (0, 0, 0)


async def test_a_deleted_organization_goes_with_all_its_datasets(estate: Estate) -> None:
    await estate.organizations.create_dataset(
        estate.owner, "acme", slug="second", name="", tagline="", visibility=Visibility.PUBLIC
    )
    await estate.put("a.txt")
    await estate.rows.task()
    await estate.organizations.delete_org(estate.owner, "acme")
    for slug in ("acme", "second"):
        with pytest.raises(NotFound):
            await estate.platform.access.dataset(estate.owner, "acme", slug)
    with pytest.raises(NotFound):
        await estate.platform.access.org(estate.owner, "acme")
    assert await estate.organizations.list_orgs(estate.owner) == []
    assert await estate.states() == ["Deleted"]
    await estate.organizations.create_org(estate.owner, slug="acme", name="", description="", is_public=False)
    assert [await estate.platform.maintenance.deleted() for _ in range(2)] == [3, 0]
    assert await estate.counts() == {
        "organizations": 1,
        "datasets": 0,
        "entries": 0,
        "tasks": 0,
        "task_log": 0,
        "artifacts": 0,
        "uploads": 0,
    }


async def test_a_task_that_slipped_in_is_cancelled_by_the_sweep(estate: Estate) -> None:
    async with estate.rows.db.begin() as connection:
        await orgs.delete_dataset(connection, estate.rows.dataset_id)
    await estate.rows.task()
    await estate.rows.claimed()
    assert await estate.platform.maintenance.deleted() == 1
    assert await estate.states() == []


async def test_a_submit_that_comes_after_the_sweep_finds_no_dataset(estate: Estate) -> None:
    late = estate.rows.new_task()
    await estate.organizations.delete_dataset(estate.owner, "acme", "acme")
    await estate.platform.maintenance.deleted()
    async with estate.rows.db.engine.connect() as connection:
        with pytest.raises(NotFound):
            await estate.platform.submit._add(connection, estate.owner, late)


async def test_an_upload_that_ends_after_its_dataset_was_deleted_finds_nothing_and_leaves_nothing(
    estate: Estate,
) -> None:
    async def deleting() -> AsyncIterator[bytes]:
        yield b"first half"
        await estate.organizations.delete_dataset(estate.owner, "acme", "acme")
        yield b"second half"

    with pytest.raises(NotFound):
        await estate.platform.entries.put(estate.permit, "a.txt", deleting())
    assert estate.blobs() == []


async def test_a_dataset_that_is_being_changed_is_deleted_after_that(estate: Estate) -> None:
    async with estate.rows.db.begin() as connection:
        assert await orgs.hold_dataset(connection, estate.rows.dataset_id)
        deleting = asyncio.create_task(estate.organizations.delete_dataset(estate.owner, "acme", "acme"))
        done, _ = await asyncio.wait({deleting}, timeout=0.2)
        assert not done
    await deleting
    async with estate.rows.db.begin() as connection:
        assert not await orgs.hold_dataset(connection, estate.rows.dataset_id)


async def test_changing_a_name_does_not_undo_a_rename(estate: Estate) -> None:
    row = (await estate.platform.access.dataset(estate.owner, "acme", "acme")).row
    await estate.organizations.rename_dataset(estate.owner, "acme", "acme", to_slug="renamed")
    async with estate.rows.db.begin() as connection:
        await orgs.update_dataset(
            connection, row.id, name="new name", tagline="", visibility=Visibility.PUBLIC
        )
    renamed = (await estate.platform.access.dataset(estate.owner, "acme", "renamed")).row
    assert (renamed.name, renamed.visibility) == ("new name", Visibility.PUBLIC)


async def test_a_slug_that_is_taken_is_refused_with_its_holder(estate: Estate) -> None:
    await estate.organizations.create_dataset(
        estate.owner, "acme", slug="other", name="", tagline="", visibility=Visibility.PRIVATE
    )
    with pytest.raises(Conflict) as refused:
        await estate.organizations.rename_dataset(estate.owner, "acme", "acme", to_slug="other")
    assert refused.value.location == "/orgs/acme/ds/other"


async def give(estate: Estate, caller: Caller, to: str) -> None:
    await estate.organizations.update_org(
        caller, "acme", name="Acme", description="", is_public=False, owner=to
    )


async def test_an_organization_is_given_away_by_its_owner_who_stays_an_administrator(estate: Estate) -> None:
    heir = Caller(await add_user(estate.rows.db, "heir"), "heir")
    await estate.organizations.set_member(
        estate.owner, "acme", user_name="heir", permissions=Membership.READ_ONLY
    )
    await give(estate, estate.owner, "heir")
    row = await estate.platform.access.org(heir, "acme", to=Access.ADMIN)
    assert row.owner == "heir"
    members = await estate.organizations.list_members(heir, "acme")
    assert [(member.user_name, member.permissions) for member in members] == [("owner", "admin")]
    with pytest.raises(Forbidden):
        await give(estate, estate.owner, "owner")
    await give(estate, heir, "heir")


async def test_nobody_else_gives_it_away_and_nobody_gets_it_who_is_not_there(estate: Estate) -> None:
    deputy = Caller(await add_user(estate.rows.db, "deputy"), "deputy")
    gone = await add_user(estate.rows.db, "gone")
    async with estate.rows.db.begin() as connection:
        await users.set_roles(connection, gone, is_admin=False, is_deactivated=True)
    await estate.organizations.set_member(
        estate.owner, "acme", user_name="deputy", permissions=Membership.ADMIN
    )
    with pytest.raises(Forbidden):
        await give(estate, deputy, "deputy")
    for name in ("nobody", "gone"):
        with pytest.raises(InvalidInput):
            await give(estate, estate.owner, name)
    system = Caller(gone, "root", is_admin=True)
    await give(estate, system, "deputy")
    assert (await estate.platform.access.org(deputy, "acme")).owner == "deputy"


async def actions(estate: Estate) -> list[tuple[str, str, object]]:
    async with estate.rows.db.read() as connection:
        columns = (AuditEvent.action, AuditEvent.target, AuditEvent.details)
        return [tuple(row) for row in await connection.execute(select(*columns).order_by(AuditEvent.id))]


async def test_what_opens_to_everybody_is_in_the_audit_log(estate: Estate) -> None:
    organizations = estate.organizations
    await organizations.create_org(estate.owner, slug="open", name="", description="", is_public=True)
    for is_public in (False, False):
        await organizations.update_org(estate.owner, "open", name="", description="", is_public=is_public)
    for slug, visibility in (("a", Visibility.PRIVATE), ("b", Visibility.UNLISTED)):
        await organizations.create_dataset(
            estate.owner, "open", slug=slug, name="", tagline="", visibility=visibility
        )
    assert await actions(estate) == [
        ("visibility-changed", "/orgs/open", {"now": "public"}),
        ("visibility-changed", "/orgs/open", {"now": "private"}),
        ("visibility-changed", "/orgs/open/ds/b", {"now": "unlisted"}),
    ]


async def test_a_change_that_is_refused_changes_nothing_of_an_organization(estate: Estate) -> None:
    with pytest.raises(InvalidInput):
        await estate.organizations.update_org(
            estate.owner, "acme", name="New", description="", is_public=True, owner="nobody"
        )
    row = await estate.platform.access.org(estate.owner, "acme")
    assert (row.name, row.is_public, await actions(estate)) == ("acme", False, [])


async def test_nobody_owns_organizations_without_end(estate: Estate) -> None:
    few = replace(estate.organizations, max_per_owner=3)

    async def create(slug: str) -> None:
        await few.create_org(estate.owner, slug=slug, name="", description="", is_public=False)

    ended = await asyncio.gather(*(create(f"org-{n}") for n in range(8)), return_exceptions=True)
    assert [type(outcome) for outcome in ended].count(LimitReached) == 6
    other = Caller(await add_user(estate.rows.db, "other"), "other")
    await few.create_org(other, slug="others", name="", description="", is_public=False)
    with pytest.raises(LimitReached) as refused:
        await few.update_org(other, "others", name="", description="", is_public=False, owner="owner")
    assert (refused.value.limit_name, refused.value.limit, refused.value.current) == ("maxOrgsPerUser", 3, 3)
    root = Caller(await add_user(estate.rows.db, "root"), "root", is_admin=True)
    for number in range(4):
        await few.create_org(root, slug=f"root-{number}", name="", description="", is_public=False)


async def test_the_list_holds_what_the_caller_may_see(estate: Estate) -> None:
    organizations = estate.organizations
    member = Caller(await add_user(estate.rows.db, "member"), "member")
    stranger = Caller(await add_user(estate.rows.db, "stranger"), "stranger")
    root = Caller(await add_user(estate.rows.db, "root"), "root", is_admin=True)
    await organizations.set_member(estate.owner, "acme", user_name="member", permissions=Membership.READ_ONLY)
    await organizations.create_org(stranger, slug="open", name="", description="", is_public=True)
    seen = {
        caller.user_name: [row.slug for row in await organizations.list_orgs(caller)]
        for caller in (ANONYMOUS, stranger, member, estate.owner, root)
    }
    assert seen == {
        None: ["open"],
        "stranger": ["open"],
        "member": ["acme", "open"],
        "owner": ["acme", "open"],
        "root": ["acme", "open"],
    }

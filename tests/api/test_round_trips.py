"""Database round trips of hot routes, and that saving them hides no change of permissions."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import event
from tests.support.rows import add_user
from tests.support.served import Served, served

from aerotask.config import Settings
from aerotask.domain.access import Membership, Visibility
from aerotask.domain.ids import TaskId, UserId, new_id
from aerotask.store.accounts import users
from aerotask.store.datasets import datasets, orgs


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Served]:
    async with served(settings) as running:
        yield running


@contextmanager
def counted(api: Served) -> Iterator[list[str]]:
    """The statements that the API sends on its read connections."""
    statements: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    engine = api.platform.db.reader.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", record)


async def test_a_status_is_read_in_one_round_trip(api: Served) -> None:
    task = await api.running_task()
    with counted(api) as statements:
        answer = await api.client.get(api.address(task.lease.task_id))
    assert answer.json()["state"] == "Processing"
    assert len(statements) == 1


class Member:
    """A member of the dataset's organization."""

    def __init__(self, api: Served, user_id: UserId) -> None:
        self.api, self.user_id = api, user_id
        token = api.platform.login.tokens.issue(user_id, "member", epoch=0).token
        self._headers = {"Authorization": f"Bearer {token}"}

    async def get(self, path: str) -> httpx.Response:
        return await self.api.client.get(path, headers=self._headers)


@pytest.fixture
async def member(api: Served) -> Member:
    user_id = await add_user(api.rows.db, "member")
    async with api.rows.db.begin() as connection:
        await orgs.set_member(connection, api.rows.org_id, user_id, Membership.READ_ONLY)
    return Member(api, user_id)


async def make_visible(api: Served, visibility: Visibility) -> None:
    async with api.rows.db.begin() as connection:
        await datasets.update_dataset(
            connection, api.rows.dataset_id, name="acme", tagline="", visibility=visibility
        )


async def revoke(member: Member) -> None:
    async with member.api.rows.db.begin() as connection:
        await users.end_sessions(connection, member.user_id)


async def deactivate(member: Member) -> None:
    async with member.api.rows.db.begin() as connection:
        await users.set_roles(connection, member.user_id, is_admin=False, is_deactivated=True)


async def remove(member: Member) -> None:
    async with member.api.rows.db.begin() as connection:
        await users.remove(connection, member.user_id)


@pytest.mark.parametrize("end", [revoke, deactivate, remove])
async def test_a_revoked_token_has_only_anonymous_access(
    member: Member, end: Callable[[Member], Awaitable[None]]
) -> None:
    api = member.api
    task_id = await api.rows.task()
    assert (await member.get(api.address(task_id))).status_code == 200
    await end(member)
    for path in (
        api.address(task_id),
        api.address(TaskId(new_id())),
        f"/orgs/absent/ds/absent/tasks/{task_id}",
    ):
        answer = await member.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad-credentials")
    await make_visible(api, Visibility.PUBLIC)
    assert (await member.get(api.address(task_id))).status_code == 200


async def test_a_lost_membership_hides_the_task_at_once(member: Member) -> None:
    api = member.api
    task_id = await api.rows.task()
    assert (await member.get(api.address(task_id))).status_code == 200
    async with api.rows.db.begin() as connection:
        await orgs.remove_member(connection, api.rows.org_id, member.user_id)
    answer = await member.get(api.address(task_id))
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_only_readers_can_tell_a_missing_task_from_a_missing_dataset(member: Member) -> None:
    answer = await member.get(member.api.address(TaskId(new_id())))
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-task")
    answer = await member.get(f"/orgs/acme/ds/absent/tasks/{uuid4()}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")

"""Initial rows for tests, and claims of tasks without a worker process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from aerotask.db.engine import Database
from aerotask.domain.access import Visibility
from aerotask.domain.ids import DatasetId, OrgId, TaskId, UserId, new_id
from aerotask.store.accounts import users
from aerotask.store.datasets import datasets, orgs
from aerotask.store.queue import claims
from aerotask.store.queue.claims import ClaimedTask
from aerotask.store.tasks import submit
from aerotask.store.tasks.submit import NewTask


@dataclass(frozen=True, slots=True)
class Rows:
    """An organization with a dataset and an owner, and operations on its tasks."""

    db: Database
    org_id: OrgId
    dataset_id: DatasetId
    user_id: UserId

    def new_task(self, **values: Any) -> NewTask:
        """A new task with default values."""
        fields: dict[str, Any] = {
            "id": TaskId(new_id()),
            "org_id": self.org_id,
            "dataset_id": self.dataset_id,
            "user_id": self.user_id,
            "tool_id": "nothing",
            "tool_version": "1",
            "path": None,
            "params": {},
            "dedup_key": new_id().bytes,
            "estimated_output_bytes": 0,
            "memory_bytes": 0,
            "writes": (),
            "inputs": (),
            **values,
        }
        return NewTask(**fields)

    async def task(self, **values: Any) -> TaskId:
        """Inserts a waiting task."""
        new = self.new_task(**values)
        async with self.db.begin() as connection:
            await submit.add(connection, new, actor="tests")
        return new.id

    async def claim(
        self, *, worker_no: int = 1, ttl_s: float = 30, max_running_per_user: int = 100
    ) -> ClaimedTask | None:
        """Claims the next task with its inputs."""
        claimed = await self.claim_many(
            1, worker_no=worker_no, ttl_s=ttl_s, max_running_per_user=max_running_per_user
        )
        async with self.db.read() as connection:
            return await claims.with_inputs(connection, claimed[0]) if claimed else None

    async def claim_many(
        self, max_count: int, *, worker_no: int = 1, ttl_s: float = 30, max_running_per_user: int = 100
    ) -> list[ClaimedTask]:
        """Claims several tasks in one statement."""
        async with self.db.begin() as connection:
            return await claims.claim_next(
                connection,
                worker_no=worker_no,
                ttl_s=ttl_s,
                max_running_per_user=max_running_per_user,
                max_count=max_count,
            )

    async def claimed(self, **values: Any) -> ClaimedTask:
        """Claims the next task, which must exist."""
        task = await self.claim(**values)
        assert task is not None
        return task


async def add_user(db: Database, name: str) -> UserId:
    """Inserts a user."""
    user_id = UserId(new_id())
    async with db.begin() as connection:
        await users.add(connection, user_id=user_id, user_name=name, email=None, hashed="", is_admin=False)
    return user_id


async def add_dataset(db: Database, user_id: UserId, slug: str) -> Rows:
    """Inserts an organization of the user with a dataset, both of that slug."""
    org_id, dataset_id = OrgId(new_id()), DatasetId(new_id())
    async with db.begin() as connection:
        await orgs.add(
            connection,
            org_id=org_id,
            slug=slug,
            name=slug,
            description="",
            is_public=False,
            owner_id=user_id,
        )
        await datasets.add(
            connection,
            dataset_id=dataset_id,
            org_id=org_id,
            slug=slug,
            name=slug,
            tagline="",
            visibility=Visibility.PRIVATE,
        )
    return Rows(db, org_id, dataset_id, user_id)


@pytest.fixture
async def rows(database: Database) -> Rows:
    """A user, an organization and a dataset."""
    return await add_dataset(database, await add_user(database, "owner"), "acme")

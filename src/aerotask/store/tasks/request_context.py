"""Request context: the caller's user, the dataset and optionally one of its tasks, loaded by one statement.

Each of them may be missing; `services/accounts/permissions.py` decides what that means.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import FromClause, and_, bindparam, join, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from aerotask.db.engine import AnySelect
from aerotask.db.models import Artifact, Dataset, Member, Organization, Task, User
from aerotask.domain.ids import TaskId, UserId
from aerotask.store.accounts import users
from aerotask.store.accounts.users import UserRow
from aerotask.store.datasets import datasets
from aerotask.store.datasets.datasets import DatasetRow
from aerotask.store.tasks import tasks
from aerotask.store.tasks.tasks import TaskRow


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The requested rows that exist."""

    user: UserRow | None
    dataset: DatasetRow | None
    """With the standing of that user, who has not been authenticated yet."""
    task: TaskRow | None


_Caller = aliased(User)
_CALLER_COLUMNS = users.columns_of(_Caller)
_DATASET_AT = len(_CALLER_COLUMNS)
_TASK_AT = _DATASET_AT + len(datasets.COLUMNS)


def _source() -> FromClause:
    place = and_(
        Organization.slug == bindparam("org_slug"),
        Dataset.slug == bindparam("slug"),
        Dataset.deleted_at.is_(None),
    )
    # Always one row: the user is returned even if there is no dataset, and vice versa.
    always = select(literal_column("1").label("one")).subquery("always")
    caller_id = bindparam("user_id", type_=User.id.type)
    return (
        join(always, _Caller, _Caller.id == caller_id, isouter=True)
        .outerjoin(join(Organization, Dataset, Dataset.org_id == Organization.id), place)
        .outerjoin(Member, and_(Member.org_id == Organization.id, Member.user_id == caller_id))
    )


# Built once: building and adapting a statement costs more than running it.
_AT_DATASET: AnySelect = select(*_CALLER_COLUMNS, *datasets.COLUMNS).select_from(_source())
_AT_TASK: AnySelect = select(*_CALLER_COLUMNS, *datasets.COLUMNS, *tasks.COLUMNS).select_from(
    _source()
    .outerjoin(Task, and_(Task.id == bindparam("task_id"), Task.dataset_id == Dataset.id))
    .outerjoin(User, User.id == Task.user_id)
    .outerjoin(Artifact, tasks.UNEXPIRED)
)


async def load(
    connection: AsyncConnection,
    user_id: UserId | None,
    org_slug: str,
    slug: str,
    *,
    task_id: TaskId | None = None,
) -> RequestContext:
    """The user, the dataset with the user's standing in it, and the task if its id is given."""
    params = {"user_id": user_id, "org_slug": org_slug, "slug": slug}
    if task_id is None:
        row = (await connection.execute(_AT_DATASET, params)).one()
    else:
        row = (await connection.execute(_AT_TASK, {**params, "task_id": task_id})).one()
    found, place, task = row[:_DATASET_AT], row[_DATASET_AT:_TASK_AT], row[_TASK_AT:]
    return RequestContext(
        user=None if found[0] is None else users.user_row(found),
        dataset=None if place[0] is None else datasets.dataset_row(place),
        task=tasks.view(task) if task and task[0] is not None else None,
    )

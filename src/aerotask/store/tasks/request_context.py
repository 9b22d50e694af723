"""What a request has to know before anything else, in one statement: who calls, the dataset, and maybe a task of it.

Each of the three may be missing, which is for `services/accounts/permissions.py` to judge.
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
    """What there is of what was asked for."""

    user: UserRow | None
    dataset: DatasetRow | None
    """With the standing of the user of that id, whether or not they turn out to be the caller."""
    task: TaskRow | None


_Caller = aliased(User)
_CALLER_COLUMNS = users.columns_of(_Caller)
_DATASET_AT = len(_CALLER_COLUMNS)
_TASK_AT = _DATASET_AT + len(datasets.COLUMNS)


def _looked_at() -> FromClause:
    place = and_(
        Organization.slug == bindparam("org_slug"),
        Dataset.slug == bindparam("slug"),
        Dataset.deleted_at.is_(None),
    )
    # One row always: who calls is told whether or not there is a dataset, and the other way round.
    always = select(literal_column("1").label("one")).subquery("always")
    caller_id = bindparam("user_id", type_=User.id.type)
    return (
        join(always, _Caller, _Caller.id == caller_id, isouter=True)
        .outerjoin(join(Organization, Dataset, Dataset.org_id == Organization.id), place)
        .outerjoin(Member, and_(Member.org_id == Organization.id, Member.user_id == caller_id))
    )


# Built once: building and adapting a statement costs more than running it.
_AT_DATASET: AnySelect = select(*_CALLER_COLUMNS, *datasets.COLUMNS).select_from(_looked_at())
_AT_TASK: AnySelect = select(*_CALLER_COLUMNS, *datasets.COLUMNS, *tasks.COLUMNS).select_from(
    _looked_at()
    .outerjoin(Task, and_(Task.id == bindparam("task_id"), Task.dataset_id == Dataset.id))
    .outerjoin(User, User.id == Task.user_id)
    .outerjoin(Artifact, tasks.UNEXPIRED)
)


async def look(
    connection: AsyncConnection,
    user_id: UserId | None,
    org_slug: str,
    slug: str,
    *,
    task_id: TaskId | None = None,
) -> RequestContext:
    """The user, the dataset as they stand to it, and the dataset's task if one is asked for."""
    named = {"user_id": user_id, "org_slug": org_slug, "slug": slug}
    if task_id is None:
        row = (await connection.execute(_AT_DATASET, named)).one()
    else:
        row = (await connection.execute(_AT_TASK, {**named, "task_id": task_id})).one()
    found, place, task = row[:_DATASET_AT], row[_DATASET_AT:_TASK_AT], row[_TASK_AT:]
    return RequestContext(
        user=None if found[0] is None else users.user_row(found),
        dataset=None if place[0] is None else datasets.dataset_row(place),
        task=tasks.view(task) if task and task[0] is not None else None,
    )

"""Route: the caller's tasks, wherever they are."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from aerotask.api.deps import CallerDep, PlatformDep, Skip, Tag, Take
from aerotask.api.http.errors import problems
from aerotask.api.http.pagination import page_links
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tasks.schemas import OwnTasksResponse
from aerotask.domain.ids import TaskId
from aerotask.domain.states import TaskState
from aerotask.representations.task_status import system_task_response
from aerotask.services.tasks.tasks import MAX_TAKE
from aerotask.store.tasks.tasks import TaskFilter

router = APIRouter(tags=["tasks"], route_class=StrictRoute)

TaskIds = Annotated[
    list[UUID] | None, Query(max_length=MAX_TAKE, description="Only these; unknown ones are left out.")
]


@router.get("/tasks", responses=problems(400, 401))
async def list_own_tasks(
    request: Request,
    caller: CallerDep,
    platform: PlatformDep,
    task_ids: TaskIds = None,
    tag: Tag = None,
    state: TaskState | None = None,
    skip: Skip = 0,
    take: Take = 50,
) -> OwnTasksResponse:
    """The caller's tasks in every dataset that they may read, newest first."""
    ids = None if task_ids is None else tuple(TaskId(task_id) for task_id in task_ids)
    page = await platform.tasks.list_own(
        caller, TaskFilter(ids=ids, tag=tag, state=state), skip=skip, take=take
    )
    links = page_links(request.url, skip=skip, take=page.take, total=page.total)
    return OwnTasksResponse.model_construct(
        count=page.total,
        next=links.get("next"),
        previous=links.get("prev"),
        results=[system_task_response(row) for row in page.items],
    )

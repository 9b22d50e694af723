"""Task routes: tools and tasks of a dataset, and the caller's own tasks in all datasets."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response

from aerotask.api.deps import (
    CallerDep,
    CredentialsDep,
    DatasetCtx,
    DsSlug,
    OrgSlug,
    PlatformDep,
    Skip,
    Tag,
    Take,
    TaskIdPath,
    UserRef,
    ViewCtx,
    WatcherAnywhereDep,
    WatcherDep,
    owner_filter,
)
from aerotask.api.http.errors import problems
from aerotask.api.http.pagination import page_headers, page_links
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tasks.schemas import (
    ClearResponse,
    DeleteTaskResponse,
    LogResponse,
    NewTaskBody,
    OwnTasksResponse,
    RestartBody,
    SubmitResponse,
    ToolResponse,
)
from aerotask.api.tasks.status_response import status_response
from aerotask.api.tasks.tools import tool_response
from aerotask.domain import paths
from aerotask.domain.access import Access
from aerotask.domain.ids import TaskId
from aerotask.domain.states import TaskState
from aerotask.representations.task_status import (
    SystemTaskResponse,
    TaskResponse,
    system_task_response,
    task_response,
)
from aerotask.services.tasks.submit import Submission, Submitted
from aerotask.services.tasks.tasks import MAX_TAKE
from aerotask.store.tasks.tasks import TaskFilter

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}/tasks", tags=["tasks"], route_class=StrictRoute)
own_tasks_router = APIRouter(tags=["tasks"], route_class=StrictRoute)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="A key that the client chooses, for safe retries of this request.",
    ),
]
TaskIds = Annotated[
    list[UUID] | None,
    Query(max_length=MAX_TAKE, description="Only tasks with these ids; unknown ids are ignored."),
]
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client's copy of the status is current."}
}
Wait = Annotated[
    float,
    Query(ge=0, le=30, description="How many seconds to wait for a change before responding (long polling)."),
]
LogSince = Annotated[int, Query(ge=0, le=2**62, description="The cursor to continue from.")]
LogTake = Annotated[int, Query(description="Number of lines; clamped to 1–1000.")]
_DUPLICATE: dict[int | str, dict[str, Any]] = {
    200: {"model": SubmitResponse, "description": "An identical task exists already."}
}


@router.get("/tools", responses=problems(401, 404))
async def list_tools(ctx: DatasetCtx) -> list[ToolResponse]:
    """List all tools, in all versions, with the JSON Schema of their params."""
    await ctx.platform.access.dataset(ctx.caller, ctx.org, ctx.slug, to=Access.READ)
    registry = ctx.platform.registry
    return [tool_response(tool, registry.schema(tool)) for tool in registry.all()]


@router.post(
    "", status_code=202, responses=_DUPLICATE | problems(400, 401, 403, 404, 409, 413, 422, 429, 507)
)
async def submit(
    platform: PlatformDep,
    principal: CredentialsDep,
    org: OrgSlug,
    slug: DsSlug,
    body: NewTaskBody,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> SubmitResponse:
    """Submit a task. 202: the task is stored; 200: an identical task exists already.

    For 24 hours, a request with the same `Idempotency-Key` and body gets the first response again.
    """
    submission = Submission(
        tool_id=body.tool_id,
        version=body.version,
        path=body.path,
        params=body.params,
        force=body.force,
        scheduled_at=body.scheduled_at,
        tags=tuple(body.tags),
        metadata=body.metadata,
        unique_id=body.unique_id,
        callback_url=body.callback_url,
    )
    submitted = await platform.submit.submit(
        principal, org, slug, submission, idempotency_key=idempotency_key
    )
    response.status_code = 200 if submitted.deduplicated else 202
    return _submit_response(f"/orgs/{org}/ds/{slug}", submitted, response)


def _submit_response(dataset_url: str, submitted: Submitted, response: Response) -> SubmitResponse:
    status_url = f"{dataset_url}/tasks/{submitted.task_id}"
    response.headers["Location"] = status_url
    return SubmitResponse(
        task_id=submitted.task_id,
        tool_id=submitted.tool_id,
        version=submitted.version,
        deduplicated=submitted.deduplicated,
        status_url=status_url,
        result_url=f"{status_url}/result",
        estimated_output_bytes=submitted.estimated_output_bytes,
    )


@router.get("", responses=problems(400, 401, 404))
async def list_tasks(
    ctx: DatasetCtx,
    request: Request,
    response: Response,
    tool_id: Annotated[str | None, Query(alias="toolId")] = None,
    state: TaskState | None = None,
    tag: Tag = None,
    path: str | None = None,
    user_id: UserRef = None,
    skip: Skip = 0,
    take: Take = 50,
) -> list[TaskResponse]:
    """List the dataset's tasks, newest first; paging by `X-Total-Count` and `Link`."""
    task_filter = TaskFilter(
        tool_id=tool_id, state=state, tag=tag, path=path and paths.canonical(path), **owner_filter(user_id)
    )
    page = await ctx.platform.tasks.list_tasks(
        ctx.caller, ctx.org, ctx.slug, task_filter, skip=skip, take=take
    )
    response.headers.update(page_headers(request.url, skip=skip, take=page.take, total=page.total))
    return [task_response(row) for row in page.items]


@router.post("/clear", responses=problems(401, 403, 404))
async def clear(
    ctx: DatasetCtx,
    tool_id: Annotated[str | None, Query(alias="toolId")] = None,
) -> ClearResponse:
    """Delete the dataset's ended tasks, with their logs and artifacts."""
    return ClearResponse(
        cleared=await ctx.platform.tasks.clear(ctx.caller, ctx.org, ctx.slug, tool_id=tool_id)
    )


@router.get("/{taskId}", response_model=TaskResponse, responses=UNCHANGED | problems(400, 401, 404))
async def status(
    platform: PlatformDep,
    watcher: WatcherDep,
    request: Request,
    wait: Wait = 0,
) -> Response:
    """Get the task's status; with `wait`, as soon as it differs from `If-None-Match` or from the current one."""
    return await status_response(request, platform.watch, watcher, wait_s=wait)


@router.get("/{taskId}/log", responses=problems(400, 401, 404))
async def log(
    ctx: ViewCtx,
    task_id: TaskIdPath,
    since: LogSince = 0,
    take: LogTake = 1000,
) -> LogResponse:
    """Get lines of the task's log, and the cursor for the next request."""
    page = await ctx.platform.tasks.log(
        ctx.caller, ctx.org, ctx.slug, TaskId(task_id), since=since, take=take
    )
    return LogResponse(cursor=page.cursor, lines=list(page.lines), truncated_from_tail=page.dropped)


@router.post("/{taskId}/retry", status_code=202, responses=problems(400, 401, 403, 404, 409, 429, 507))
async def retry(ctx: DatasetCtx, task_id: TaskIdPath, response: Response) -> TaskResponse:
    """Retry a Failed or Deleted task: same id, next attempt, same log."""
    row = await ctx.platform.retries.retry(ctx.caller, ctx.org, ctx.slug, TaskId(task_id))
    response.headers["Location"] = f"{ctx.address}/tasks/{task_id}"
    return task_response(row)


@router.post("/{taskId}/restart", status_code=202, responses=problems(400, 401, 403, 404, 409, 413, 429, 507))
async def restart(
    ctx: DatasetCtx, task_id: TaskIdPath, body: RestartBody, response: Response
) -> SubmitResponse:
    """Submit a new task from an ended one, with some params changed; `restartOf` is the old task's id."""
    submitted = await ctx.platform.retries.restart(
        ctx.caller, ctx.org, ctx.slug, TaskId(task_id), params=body.params, rerun_from=body.rerun_from
    )
    return _submit_response(ctx.address, submitted, response)


@router.delete("/{taskId}", responses=problems(400, 401, 403, 404))
async def delete(ctx: DatasetCtx, task_id: TaskIdPath) -> DeleteTaskResponse:
    """Cancel an active task, or mark an ended one Deleted and remove its artifact."""
    state = await ctx.platform.tasks.delete(ctx.caller, ctx.org, ctx.slug, TaskId(task_id))
    return DeleteTaskResponse(task_id=task_id, state=state)


@own_tasks_router.get("/tasks", responses=problems(400, 401))
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
    """List the caller's tasks in all datasets that they may read, newest first."""
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


@own_tasks_router.get(
    "/tasks/{taskId}", response_model=SystemTaskResponse, responses=UNCHANGED | problems(400, 401, 404)
)
async def status_anywhere(
    platform: PlatformDep, watcher: WatcherAnywhereDep, request: Request, wait: Wait = 0
) -> Response:
    """Get a task's status by its id alone, with its organization, dataset and user; otherwise as in its dataset."""
    return await status_response(
        request, platform.watch, watcher, wait_s=wait, represent=system_task_response
    )

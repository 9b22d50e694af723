"""Routes: the messages about a task's ends, and the key that proves where they come from."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from aerotask.api.deps import CallerDep, DatasetCtx, PlatformDep, TaskIdPath
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain.ids import TaskId
from aerotask.domain.webhooks import WebhookState
from aerotask.representations.base import ApiModel, Moment
from aerotask.store.tasks.webhooks import WebhookRow

router = APIRouter(tags=["callbacks"], route_class=StrictRoute)


class DeliveryAttemptResponse(ApiModel):
    """One try to deliver a message."""

    at: str
    status: int | None
    """The status that the receiver answered; null if it answered none."""
    error: str | None
    """What went wrong; null after success."""
    duration_ms: int


class WebhookResponse(ApiModel):
    """A message about an end of a task."""

    id: UUID
    """The header `webhook-id` of every try."""
    url: str
    state: WebhookState
    created_at: Moment
    due_at: Moment | None
    """When the next try is due; null if there will be none."""
    tries: int
    attempts: list[DeliveryAttemptResponse]


class WebhookSecretResponse(ApiModel):
    """The caller's signing key."""

    secret: str


@router.get("/orgs/{orgSlug}/ds/{dsSlug}/tasks/{taskId}/callbacks", responses=problems(400, 401, 403, 404))
async def list_callbacks(ctx: DatasetCtx, task_id: TaskIdPath) -> list[WebhookResponse]:
    """The messages to the task's callback URL, oldest first, with every try; for the task's owner."""
    rows = await ctx.platform.tasks.callbacks(ctx.caller, ctx.org, ctx.slug, TaskId(task_id))
    return [_answer(row) for row in rows]


@router.get("/users/me/callback-secret", responses=problems(401, 403))
async def callback_secret(
    caller: CallerDep, platform: PlatformDep, response: Response
) -> WebhookSecretResponse:
    """The key that signs callbacks about the caller's tasks, as libraries for Standard Webhooks take it."""
    response.headers["Cache-Control"] = "no-store"
    return WebhookSecretResponse(secret=platform.webhooks.key_of_caller(caller).shown)


def _answer(row: WebhookRow) -> WebhookResponse:
    return WebhookResponse(
        id=row.id,
        url=row.url,
        state=row.state,
        created_at=row.created_at,
        due_at=row.due_at if row.state is WebhookState.WAITING else None,
        tries=row.tries,
        attempts=[DeliveryAttemptResponse.model_validate(attempt) for attempt in row.attempts],
    )

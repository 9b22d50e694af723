"""Webhook routes: deliveries for a task, and the caller's signing secret."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from aerotask.api.deps import CallerDep, DatasetCtx, PlatformDep, TaskIdPath
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.domain.ids import TaskId
from aerotask.domain.webhooks import WebhookState
from aerotask.representations.base import ApiModel, Moment, RowModel, damaged_members
from aerotask.store.tasks.webhooks import WebhookRow

router = APIRouter(tags=["callbacks"], route_class=StrictRoute)


class DeliveryAttemptResponse(ApiModel):
    """Delivery attempt of a webhook."""

    at: str
    status: int | None
    """HTTP status of the receiver's response; null without a response."""
    error: str | None
    """Error message; null after success."""
    duration_ms: int


class WebhookResponse(RowModel):
    """Webhook message about the end of a task."""

    id: UUID
    """The `webhook-id` header of every attempt."""
    url: str
    state: WebhookState
    created_at: Moment
    due_at: Moment | None
    """Time of the next attempt; null if there is none."""
    tries: int
    attempts: list[DeliveryAttemptResponse]


class WebhookSecretResponse(ApiModel):
    """The caller's webhook signing secret."""

    secret: str


@router.get("/orgs/{orgSlug}/ds/{dsSlug}/tasks/{taskId}/callbacks", responses=problems(400, 401, 403, 404))
async def list_callbacks(ctx: DatasetCtx, task_id: TaskIdPath) -> list[WebhookResponse]:
    """List the webhooks sent to the task's callback URL, oldest first, with all attempts; for the task's owner."""
    rows = await ctx.platform.tasks.webhooks(ctx.caller, ctx.org, ctx.slug, TaskId(task_id))
    return [_webhook(row) for row in rows]


@router.get("/users/me/callback-secret", responses=problems(401, 403))
async def callback_secret(
    caller: CallerDep, platform: PlatformDep, response: Response
) -> WebhookSecretResponse:
    """Get the secret that signs webhooks about the caller's tasks, in the format of Standard Webhooks libraries."""
    response.headers["Cache-Control"] = "no-store"
    return WebhookSecretResponse(secret=platform.webhooks.signing_key_of_caller(caller).shown)


def _webhook(row: WebhookRow) -> WebhookResponse:
    return WebhookResponse(
        id=row.id,
        url=row.url,
        state=row.state,
        created_at=row.created_at,
        due_at=row.due_at if row.state is WebhookState.WAITING else None,
        tries=row.tries,
        attempts=[DeliveryAttemptResponse.model_validate(attempt) for attempt in row.attempts],
        damaged=damaged_members(row.damaged),
    )

"""Routes: what a tool would make of some params, asked before submitting them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from aerotask.api.deps import DatasetContext, DatasetCtx
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tasks.schemas import DryRunError, DryRunResponse

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["tasks"], route_class=StrictRoute)

_ANSWERS = problems(400, 401, 404, 413)


@router.post("/align/validate", responses=_ANSWERS)
async def validate_align(ctx: DatasetCtx, body: dict[str, Any]) -> DryRunResponse:
    """Check the params of align-raster without submitting a task.

    The body is the tool's params. Read on the dataset is enough, since nothing changes.
    """
    return await _validate(ctx, "align-raster", body)


@router.post("/merge-multispectral/validate", responses=_ANSWERS)
async def validate_merge(ctx: DatasetCtx, body: dict[str, Any]) -> DryRunResponse:
    """Check the params of merge-multispectral without submitting a task.

    The body is the tool's params. Read on the dataset is enough, since nothing changes.
    """
    return await _validate(ctx, "merge-multispectral", body)


async def _validate(ctx: DatasetContext, tool_id: str, params: dict[str, Any]) -> DryRunResponse:
    found = await ctx.platform.dry_run.validate(ctx.caller, ctx.org, ctx.slug, tool_id, params)
    return DryRunResponse(
        ok=found.ok,
        errors=[
            DryRunError(pointer=fault.pointer, message=fault.message, code=fault.code or "invalid-input")
            for fault in found.errors
        ],
        warnings=list(found.warnings),
        summary=dict(found.summary),
    )

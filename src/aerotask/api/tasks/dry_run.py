"""Routes: what a tool would make of some params, asked before submitting them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from aerotask.api.deps import Place, PlaceDep
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tasks.schemas import ValidationAnswer, ValidationFault

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["tasks"], route_class=StrictRoute)

_ANSWERS = problems(400, 401, 404, 413)


@router.post("/align/validate", responses=_ANSWERS)
async def validate_align(at: PlaceDep, body: dict[str, Any]) -> ValidationAnswer:
    """Check the params of align-raster without submitting a task.

    The body is the tool's params. Read on the dataset is enough, since nothing changes.
    """
    return await _validate(at, "align-raster", body)


@router.post("/merge-multispectral/validate", responses=_ANSWERS)
async def validate_merge(at: PlaceDep, body: dict[str, Any]) -> ValidationAnswer:
    """Check the params of merge-multispectral without submitting a task.

    The body is the tool's params. Read on the dataset is enough, since nothing changes.
    """
    return await _validate(at, "merge-multispectral", body)


async def _validate(at: Place, tool_id: str, params: dict[str, Any]) -> ValidationAnswer:
    found = await at.platform.validation.validate(at.caller, at.org, at.slug, tool_id, params)
    return ValidationAnswer(
        ok=found.ok,
        errors=[
            ValidationFault(pointer=fault.pointer, message=fault.message, code=fault.code or "invalid-input")
            for fault in found.errors
        ],
        warnings=list(found.warnings),
        summary=dict(found.summary),
    )

"""Routes: dry runs and previews of tools, and the tools' representation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response

from aerotask.api.deps import DatasetContext, DatasetCtx
from aerotask.api.http.errors import problems
from aerotask.api.http.strict_json import StrictRoute
from aerotask.api.tasks.schemas import DryRunError, DryRunResponse, ToolResponse
from aerotask.api.tiles.tiles import LARGEST_PX, SMALLEST_PX, WEBP, Size
from aerotask.registry import Registry
from aerotask.sdk import Tool
from aerotask.sdk.tool import has_preview

_DATASET = "/orgs/{orgSlug}/ds/{dsSlug}"
router = APIRouter(prefix=_DATASET, route_class=StrictRoute)

ToolId = Annotated[str, Path(alias="toolId", max_length=64, description="The tool's id.")]
ToolParamsBody = Annotated[dict[str, Any], Body(description="The tool's own parameters, as for a task.")]
_DRY_RUN = problems(400, 401, 404, 413)
_PREVIEW: dict[int | str, dict[str, Any]] = {
    200: {"description": "The image.", "content": {WEBP: {}}},
    **problems(400, 401, 404, 413),
}


@router.post("/tools/{toolId}/validate", tags=["tasks"], responses=_DRY_RUN)
async def validate_tool(ctx: DatasetCtx, tool_id: ToolId, params: ToolParamsBody) -> DryRunResponse:
    """Check a tool's params and plan the run without submitting a task.

    Read access to the dataset is enough, since nothing changes.
    """
    return await _validate(ctx, tool_id, params)


@router.post("/tools/{toolId}/preview", tags=["viewing"], response_class=Response, responses=_PREVIEW)
async def preview_tool(
    ctx: DatasetCtx, tool_id: ToolId, params: ToolParamsBody, size: Size = 512
) -> Response:
    """A small image of a tool's result; nothing is stored. 404 (`no-preview`) if the tool draws none."""
    return await _preview(ctx, tool_id, params, size)


def alias_router(registry: Registry) -> APIRouter:
    """The same routes under the addresses that tools declare in `route_aliases`."""
    aliases = APIRouter(prefix=_DATASET, route_class=StrictRoute)
    for tool_id in registry.tools:
        tool = registry.get(tool_id)
        for alias in tool.route_aliases:
            _add_alias(aliases, alias, tool)
    return aliases


def _add_alias(aliases: APIRouter, alias: str, tool: Tool[Any]) -> None:
    async def validate(ctx: DatasetCtx, params: ToolParamsBody) -> DryRunResponse:
        return await _validate(ctx, tool.id, params)

    async def preview(ctx: DatasetCtx, params: ToolParamsBody, size: Size = 512) -> Response:
        return await _preview(ctx, tool.id, params, size)

    name = alias.partition("-")[
        0
    ]  # the operation ids that generated clients know: validate_align, validate_merge
    aliases.post(
        f"/{alias}/validate",
        name=f"validate_{name}",
        description=f"The same as `POST {_DATASET}/tools/{tool.id}/validate`.",
        tags=["tasks"],
        responses=_DRY_RUN,
    )(validate)
    if has_preview(tool):
        aliases.post(
            f"/{alias}/preview",
            name=f"preview_{name}",
            description=f"The same as `POST {_DATASET}/tools/{tool.id}/preview`.",
            tags=["viewing"],
            response_class=Response,
            responses=_PREVIEW,
        )(preview)


async def _validate(ctx: DatasetContext, tool_id: str, params: dict[str, Any]) -> DryRunResponse:
    result = await ctx.platform.dry_run.validate(ctx.caller, ctx.org, ctx.slug, tool_id, params)
    return DryRunResponse(
        ok=result.ok,
        errors=[
            DryRunError(pointer=error.pointer, message=error.message, code=error.code or "invalid-input")
            for error in result.errors
        ],
        warnings=list(result.warnings),
        summary=dict(result.summary),
    )


async def _preview(ctx: DatasetContext, tool_id: str, params: dict[str, Any], size: int) -> Response:
    size_px = max(SMALLEST_PX, min(size, LARGEST_PX))
    image = await ctx.platform.tiles.preview(ctx.caller, ctx.org, ctx.slug, tool_id, params, size_px=size_px)
    return Response(image, headers={"Cache-Control": "no-store"}, media_type=WEBP)


def tool_response(tool: Tool[Any], schema: Mapping[str, Any]) -> ToolResponse:
    """A tool as clients see it, with the JSON Schema of its params."""
    reason = tool.unavailable_reason()
    return ToolResponse(
        id=tool.id,
        version=tool.version,
        title=tool.title,
        description=tool.description,
        required_access=tool.access,
        produces_artifact=tool.artifact_suffix is not None,
        result_extension=tool.artifact_suffix,
        input_schema={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
        },
        available=reason is None,
        unavailable_reason=reason,
    )

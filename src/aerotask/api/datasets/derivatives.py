"""Derivative routes: list and download the files that the tool `build` made of an entry."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from pydantic import TypeAdapter
from starlette.convertors import Convertor, register_url_convertor

from aerotask.api.datasets.entries import FILE_RESPONSES, EntryPathParam
from aerotask.api.deps import DatasetContext, FileName, ViewCtx
from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.cross_origin import allow_cross_origin
from aerotask.api.http.errors import problems
from aerotask.api.http.file_response import file_response
from aerotask.derivatives.kinds import KIND_INFO, DerivativeKind, addressed_names, download_name
from aerotask.domain.errors import InvalidInput
from aerotask.representations.base import Moment, RowModel, damaged_members
from aerotask.store.datasets.derivatives import DerivativeRow


class DerivativeResponse(RowModel):
    """Derivative of an entry."""

    kind: str
    """`cog`, `copc`, `glb`, `nxz`, `pmtiles` or `gpkg`."""
    url: str
    size: int
    hash: str
    """SHA-256 of the derivative, also its ETag."""
    created_at: Moment
    properties: dict[str, Any]
    """Metadata by kind: band statistics, bounds, layers, warnings."""


class _KindConvertor(Convertor[str]):
    """URL convertor that matches derivative kinds only; any other last segment belongs to the entry's path."""

    regex = "|".join(DerivativeKind)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("derivativeKind", _KindConvertor())
KindParam = Annotated[DerivativeKind, Path(description="The kind of derivative.")]
_DERIVATIVES = TypeAdapter(list[DerivativeResponse])
router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["objects"], route_class=ClosedQueryRoute)


@router.get(
    "/build/{path:path}/{kind:derivativeKind}",
    responses=FILE_RESPONSES | problems(400, 401, 404, 412, 416, 500),
)
@router.head("/build/{path:path}/{kind:derivativeKind}", include_in_schema=False)
async def get_derivative(ctx: ViewCtx, path: EntryPathParam, kind: KindParam, request: Request) -> Response:
    """Download one derivative of an entry, whole or in ranges."""
    opened = await ctx.platform.derivatives.open(ctx.caller, ctx.org, ctx.slug, path, kind)
    if opened.allows_anonymous:
        allow_cross_origin(request)
    return await file_response(
        request,
        opened.content,
        file_name=download_name(path, kind),
        media_type=KIND_INFO[kind].media_type,
        sha256=opened.row.sha256,
    )


@router.get(
    "/build/{path:path}/{kind:derivativeKind}/{fileName}",
    response_class=Response,
    responses=FILE_RESPONSES | problems(400, 401, 404, 412, 416, 500),
)
@router.head("/build/{path:path}/{kind:derivativeKind}/{fileName}", include_in_schema=False)
async def get_named_derivative(
    ctx: ViewCtx, path: EntryPathParam, kind: KindParam, file_name: FileName, request: Request
) -> Response:
    """Download one derivative of an entry; the address ends in its file name (`ortho.cog.tif` or `ortho.tif`).

    Where `path` is a folder, this lists the derivatives of the entry below it that the whole address names.
    """
    if file_name in addressed_names(path, kind):
        try:
            return await get_derivative(ctx, path, kind, request)
        except InvalidInput as error:
            if error.code != "not-a-file":
                raise
    return await listed_derivatives(ctx, f"{path}/{kind}/{file_name}")


async def listed_derivatives(ctx: DatasetContext, path: str) -> Response:
    """As `list_derivatives`, as a whole response."""
    listed = await list_derivatives(ctx, path)
    return Response(_DERIVATIVES.dump_json(listed, by_alias=True), media_type="application/json")


@router.get("/build/{path:path}", responses=problems(400, 401, 404))
async def list_derivatives(ctx: ViewCtx, path: EntryPathParam) -> list[DerivativeResponse]:
    """List an entry's derivatives by kind."""
    rows = await ctx.platform.derivatives.list_of(ctx.caller, ctx.org, ctx.slug, path)
    return [_derivative(ctx, path, row) for row in rows]


def _derivative(ctx: DatasetContext, path: str, row: DerivativeRow) -> DerivativeResponse:
    return DerivativeResponse(
        kind=row.kind,
        url=f"{ctx.address}/build/{quote(path)}/{row.kind}",
        size=row.size_bytes,
        hash=row.sha256,
        created_at=row.created_at,
        properties=row.properties,
        damaged=damaged_members(row.damaged),
    )

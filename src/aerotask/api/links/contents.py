"""Routes behind a link: contents of entries, their derivatives, and lists of folders."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from aerotask.api.datasets import derivatives, entries
from aerotask.api.datasets.derivatives import DerivativeResponse, KindParam
from aerotask.api.datasets.entries import FILE_RESPONSES, EntryPathParam
from aerotask.api.datasets.entry_schemas import EntryResponse
from aerotask.api.deps import FileName
from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.errors import problems
from aerotask.api.links.access import PREFIX, LinkCtx, reading
from aerotask.derivatives.kinds import addressed_names
from aerotask.domain.access import LinkScope

router = APIRouter(prefix=PREFIX, tags=["links"], route_class=ClosedQueryRoute)

_FILE = {
    "response_class": Response,
    "responses": FILE_RESPONSES | problems(400, 403, 404, 412, 416, 429, 500),
}


@reading(router, "/obj/{path:path}", **_FILE)
async def get_linked_object(link: LinkCtx, path: EntryPathParam, request: Request) -> Response:
    """Download a file by a link, in full or in ranges."""
    return await entries.get_object(link.entry(path, to=LinkScope.DOWNLOAD), path, request)


@reading(router, "/build/{path:path}/{kind:derivativeKind}/{fileName}", **_FILE)
async def get_linked_named_derivative(
    link: LinkCtx, path: EntryPathParam, kind: KindParam, file_name: FileName, request: Request
) -> Response:
    """Download a derivative by a link, at an address that ends in its file name."""
    if file_name in addressed_names(path, kind) and link.link.covers_entry(path):
        ctx = link.entry(path, to=LinkScope.DOWNLOAD)
        return await derivatives.get_named_derivative(ctx, path, kind, file_name, request)
    entry = f"{path}/{kind}/{file_name}"  # in a folder that is called like a kind
    return await derivatives.listed_derivatives(link.entry(entry, to=LinkScope.VIEW), entry)


@reading(router, "/build/{path:path}/{kind:derivativeKind}", **_FILE)
async def get_linked_derivative(
    link: LinkCtx, path: EntryPathParam, kind: KindParam, request: Request
) -> Response:
    """Download a derivative by a link, in full or in ranges."""
    return await derivatives.get_derivative(link.entry(path, to=LinkScope.DOWNLOAD), path, kind, request)


@reading(router, "/build/{path:path}", responses=problems(400, 404, 429))
async def list_linked_derivatives(link: LinkCtx, path: EntryPathParam) -> list[DerivativeResponse]:
    """List an entry's derivatives by a link."""
    return await derivatives.list_derivatives(link.entry(path, to=LinkScope.VIEW), path)


@reading(
    router,
    "/list",
    response_class=Response,
    responses={
        200: {
            "description": "The entries.",
            "content": {"application/json": {}},
            "model": list[EntryResponse],
        }
    }
    | problems(400, 404, 429),
)
async def list_linked_entries(
    link: LinkCtx,
    request: Request,
    path: Annotated[
        str | None, Query(description="A folder within the link; the link's own if missing.")
    ] = None,
    recursive: Annotated[bool, Query(description="Include everything below the folder.")] = False,
) -> Response:
    """List the entries that a link opens, of a folder or all below it; for a file, the file itself."""
    folder = (link.link.row.path or "") if path is None else path
    ctx = link.entry(folder, to=LinkScope.VIEW)
    return await entries.list_entries(ctx, request, folder, recursive)

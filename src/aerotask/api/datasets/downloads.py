"""Download route: one file as is, or several entries as a ZIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from aerotask.api.deps import DatasetCtx
from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.errors import problems
from aerotask.api.http.file_response import attachment, file_response
from aerotask.domain import paths
from aerotask.domain.errors import ContentDamaged
from aerotask.metadata.file_types import media_type_by_name
from aerotask.services.datasets.downloads import DownloadSelection
from aerotask.services.storage.damage import DamageService
from aerotask.store.datasets.entries import EntryRow

MAX_PATHS = 1000
LONG_URL_HINTS = {"/download": "Name fewer paths, or submit a download task, which takes 1000 of any length."}

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["objects"], route_class=ClosedQueryRoute)

Paths = Annotated[
    list[str],
    Query(
        alias="path", max_length=MAX_PATHS, description="Files and folders; without any, the whole dataset."
    ),
]
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The requested file, or a ZIP.",
        "content": {"application/zip": {}, "application/octet-stream": {}},
    },
    206: {
        "description": "The requested ranges of the file.",
        "content": {"application/octet-stream": {}},
    },
    304: {"description": "The client's copy is current."},
}


@router.get("/download", responses=_RESPONSES | problems(400, 401, 404, 412, 413, 416, 500))
@router.head("/download", include_in_schema=False)
async def download(ctx: DatasetCtx, request: Request, selected: Paths = []) -> Response:  # noqa: B006  FastAPI copies it
    """Download one file as is, or several entries as a ZIP; selections that are too large need a bulk-download task."""
    selection = await ctx.platform.downloads.select(ctx.caller, ctx.org, ctx.slug, selected)
    if isinstance(selection, EntryRow):
        return await _one_file(ctx, request, selection)
    headers = {
        "Content-Disposition": attachment(selection.file_name),
        "Content-Length": str(selection.length),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if request.method == "HEAD":
        await selection.release()
        return Response(headers=headers, media_type="application/zip")
    return _ZipResponse(selection, headers, ctx.platform.damage)


async def _one_file(ctx: DatasetCtx, request: Request, row: EntryRow) -> Response:
    entry = await ctx.platform.entries.open_file(ctx.caller, ctx.org, ctx.slug, row.path)
    return await file_response(
        request,
        entry.content,
        file_name=paths.base_name(entry.row.path),
        media_type=media_type_by_name(entry.row.path),
        sha256=entry.row.sha256,
    )


class _ZipResponse(StreamingResponse):
    """Streaming ZIP that always releases its selection, even if the client disconnects before the start."""

    def __init__(
        self, selection: DownloadSelection, headers: Mapping[str, str], damage: DamageService
    ) -> None:
        self._chunks = selection.chunks()
        self._damage = damage
        super().__init__(self._chunks, headers=headers, media_type="application/zip")
        self._selection = selection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except ContentDamaged as error:
            await self._damage.report(error)
            raise
        finally:
            await self._chunks.aclose()
            await self._selection.release()

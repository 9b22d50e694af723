"""Routes: several entries of a dataset as one download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from aerotask.api.deps import DatasetCtx
from aerotask.api.http.errors import problems
from aerotask.api.http.file_response import attachment, file_response
from aerotask.domain import paths
from aerotask.metadata.file_types import media_type_by_name
from aerotask.services.datasets.downloads import DownloadSelection
from aerotask.store.datasets.entries import EntryRow

MAX_PATHS = 1000
LONG_URL_HINTS = {
    "/download": "Name fewer paths, or submit a task of the tool 'bulk-download', which takes 1000 of any length."
}

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["objects"])

Paths = Annotated[
    list[str],
    Query(alias="path", max_length=MAX_PATHS, description="Files and folders; left out, the whole dataset."),
]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The one file that is named, or a ZIP.",
        "content": {"application/zip": {}, "application/octet-stream": {}},
    },
    206: {
        "description": "The ranges of the file that were asked for.",
        "content": {"application/octet-stream": {}},
    },
    304: {"description": "The client has this content."},
}


@router.get("/download", responses=_ANSWERS | problems(400, 401, 404, 412, 413, 416))
@router.head("/download", include_in_schema=False)
async def download(ctx: DatasetCtx, request: Request, named: Paths = []) -> Response:  # noqa: B006  FastAPI copies it
    """Download one file as it is, or several entries as a ZIP; a large selection is a task, which the answer names."""
    chosen = await ctx.platform.downloads.select(ctx.caller, ctx.org, ctx.slug, named)
    if isinstance(chosen, EntryRow):
        return await _one_file(ctx, request, chosen)
    headers = {
        "Content-Disposition": attachment(chosen.file_name),
        "Content-Length": str(chosen.length),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if request.method == "HEAD":
        await chosen.let_go()
        return Response(headers=headers, media_type="application/zip")
    return _ZipResponse(chosen, headers)


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
    """Streams a selection and lets it go whatever happens, also when the client leaves before the start."""

    def __init__(self, selection: DownloadSelection, headers: Mapping[str, str]) -> None:
        self._chunks = selection.chunks()
        super().__init__(self._chunks, headers=headers, media_type="application/zip")
        self._selection = selection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()
            await self._selection.let_go()

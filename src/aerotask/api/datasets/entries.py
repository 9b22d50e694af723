"""Entry routes: list, upload, download and delete files and folders of a dataset."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import TypeAdapter

from aerotask.api.datasets.entry_schemas import EntryResponse, RemoveResponse
from aerotask.api.deps import DatasetContext, DatasetCtx, ViewCtx
from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.errors import problems
from aerotask.api.http.file_response import file_response
from aerotask.api.http.multipart import FormReader, field_text
from aerotask.api.http.preconditions import ConditionDep
from aerotask.blobs.blob_store import Blob
from aerotask.domain import paths
from aerotask.domain.access import Access
from aerotask.domain.errors import InvalidInput
from aerotask.metadata.file_types import media_type_by_name
from aerotask.representations.base import damaged_members
from aerotask.services.accounts.permissions import Grant
from aerotask.services.datasets.entries import EntryService
from aerotask.services.datasets.storage_quota import Headroom
from aerotask.store.datasets.entries import EntryRow

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}", tags=["objects"], route_class=ClosedQueryRoute)

EntryPathParam = Annotated[str, Path(alias="path", description="The entry's path.")]
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "path": {"type": "string", "description": "Without it, the file's own name."},
                        "file": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}
_RAW: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ENTRIES = TypeAdapter(list[EntryResponse])
_LIST: dict[int | str, dict[str, Any]] = {200: {"model": list[EntryResponse]}}
FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The content.", "content": {"*/*": {}}},
    206: {"description": "The requested ranges.", "content": {"*/*": {}}},
    304: {"description": "The client's copy is current."},
}


@router.get(
    "/list",
    response_class=JSONResponse,
    responses=_LIST | problems(400, 401, 404),
)
@router.head("/list", include_in_schema=False)
async def list_entries(
    ctx: DatasetCtx,
    request: Request,
    path: str | None = None,
    recursive: Annotated[
        bool, Query(description="Include everything below the folder, not only its direct children.")
    ] = False,
) -> Response:
    """List the entries of a folder by path; for a file, the file itself."""
    batches = await ctx.platform.entries.list_entries(
        ctx.caller, ctx.org, ctx.slug, path=path, recursive=recursive
    )
    if request.method == "HEAD":
        return Response(media_type="application/json")
    return StreamingResponse(json_array(batches), media_type="application/json")


async def json_array(batches: AsyncIterator[list[EntryRow]]) -> AsyncIterator[bytes]:
    """JSON array of entries, encoded batch by batch so that a long list is never in memory as a whole."""
    opening = b"["
    async for rows in batches:
        items = _ENTRIES.dump_json([entry_response(row) for row in rows], by_alias=True)
        if rows:
            yield opening + items[1:-1]
            opening = b","
    yield b"[]" if opening == b"[" else b"]"


@router.post(
    "/obj", status_code=201, responses=problems(400, 401, 403, 404, 409, 413, 429, 507), openapi_extra=_FORM
)
async def put_form(ctx: DatasetCtx, request: Request, response: Response) -> EntryResponse:
    """Upload a file as a form, by its own name if `path` is missing; without `file`, create a folder."""
    grant = await ctx.authorize(Access.WRITE)
    row = await _put_form(ctx.platform.entries, grant, FormReader(request, payload="file"))
    return created(ctx, row, response)


@router.put(
    "/obj/{path:path}",
    status_code=201,
    responses=problems(400, 401, 403, 404, 409, 412, 413, 429, 507),
    openapi_extra=_RAW,
)
async def put_raw(
    ctx: DatasetCtx, path: EntryPathParam, condition: ConditionDep, request: Request, response: Response
) -> EntryResponse:
    """Upload a file as the raw body, for programs and `curl -T`."""
    grant = await ctx.authorize(Access.WRITE)
    announced = int(request.headers.get("content-length", "0"))
    row = await ctx.platform.entries.put(
        grant, path, request.stream(), announced_bytes=announced, condition=condition
    )
    return created(ctx, row, response)


@router.get("/obj/{path:path}", responses=FILE_RESPONSES | problems(400, 401, 404, 412, 416, 500))
@router.head("/obj/{path:path}", include_in_schema=False)
async def get_object(ctx: ViewCtx, path: EntryPathParam, request: Request) -> Response:
    """Download a file, in full or in ranges."""
    entry = await ctx.platform.entries.open_file(ctx.caller, ctx.org, ctx.slug, path)
    return await file_response(
        request,
        entry.content,
        file_name=paths.base_name(entry.row.path),
        media_type=media_type_by_name(entry.row.path),
        sha256=entry.row.sha256,
    )


@router.delete("/obj/{path:path}", responses=problems(400, 401, 403, 404, 412))
async def delete_object(ctx: DatasetCtx, path: EntryPathParam, condition: ConditionDep) -> RemoveResponse:
    """Delete an entry; for a folder, with everything below it."""
    removed = await ctx.platform.entries.remove(ctx.caller, ctx.org, ctx.slug, path, condition=condition)
    return RemoveResponse(removed=removed)


async def _put_form(entries: EntryService, grant: Grant, form: FormReader) -> EntryRow:
    """Reads the whole form, whose fields may come in any order, and stores its file or folder."""
    path: str | None = None
    file_name: str | None = None
    blob: Blob | None = None
    try:
        async for part in form.parts():
            if part.name == "path":
                path = await field_text(part)
            elif part.name == "file" and blob is None:
                file_name = part.file_name
                blob = await entries.receive(part.body, await _headroom(entries, grant, path))
            else:
                await _skip(part.body)
    except BaseException:
        if blob is not None:
            await entries.blobs.remove(blob.key)
        raise
    path = path or file_name
    if not path:
        if blob is not None:
            await entries.blobs.remove(blob.key)
        raise InvalidInput(
            "The form has no field 'path' and no file with a name; add the path of the file or folder.",
            code="invalid-form",
        )
    if blob is None:
        return await entries.make_folder(grant, path)
    return await entries.link(grant, path, blob)


async def _headroom(entries: EntryService, grant: Grant, path: str | None) -> Headroom:
    """The storage headroom for the file; fields may come in any order, so its path may be unknown yet."""
    if path is None:
        return await entries.headroom_anywhere(grant.dataset_id)
    return await entries.check_early(grant.dataset_id, paths.entry_path(path), announced_bytes=0)


async def _skip(body: AsyncIterator[bytes]) -> None:
    async for _ in body:
        pass


def created(ctx: DatasetContext, row: EntryRow, response: Response) -> EntryResponse:
    """The response about a created entry; sets `Location`."""
    response.headers["Location"] = f"{ctx.address}/obj/{quote(row.path)}"
    return entry_response(row)


def entry_response(row: EntryRow) -> EntryResponse:
    """The API representation of an entry."""
    return EntryResponse(
        path=row.path,
        hash=row.sha256,
        type=row.type,
        properties=row.properties,
        mtime=int(row.modified_at.timestamp()),
        size=row.size_bytes,
        depth=row.depth,
        point_geom=row.point_geom,
        polygon_geom=row.polygon_geom,
        indexed=row.indexed,
        damaged=damaged_members(row.damaged),
    )

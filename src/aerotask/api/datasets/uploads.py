"""Resumable upload routes (tus protocol)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from email.utils import format_datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path, Request, Response
from starlette.requests import ClientDisconnect

from aerotask.api.deps import DatasetContext, DatasetCtx, DsSlug, OrgSlug, PlatformDep
from aerotask.api.http import tus
from aerotask.api.http.errors import problem, problems
from aerotask.api.http.tus import TusRoute
from aerotask.domain.access import Access
from aerotask.domain.errors import InvalidInput, TooLarge
from aerotask.domain.ids import UploadId
from aerotask.services.datasets.uploads import UploadProgress

router = APIRouter(prefix="/orgs/{orgSlug}/ds/{dsSlug}/uploads", tags=["objects"], route_class=TusRoute)

UploadIdPath = Annotated[UUID, Path(alias="uploadId", description="The upload's id.")]
# Parameters for OpenAPI only; the handlers parse the headers themselves, for clearer errors.
Version = Annotated[
    str | None, Header(alias="Tus-Resumable", description=f"`{tus.VERSION}`; anything else is 412.")
]
Length = Annotated[str | None, Header(alias="Upload-Length", description="Size of the file in bytes.")]
Offset = Annotated[
    str | None,
    Header(alias="Upload-Offset", description="Offset of the body: the number of bytes received so far."),
]
Metadata = Annotated[
    str | None,
    Header(
        alias="Upload-Metadata",
        description="`path` (or `filename`): the file's path in the dataset, in Base64; other keys are returned as sent.",
    ),
]
Override = Annotated[
    str | None,
    Header(
        alias="X-HTTP-Method-Override", description="The method to use, for clients that can only send POST."
    ),
]
_BODY: dict[str, Any] = {
    "requestBody": {"content": {tus.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}


def _responses(status: int, description: str, *headers: str) -> dict[int | str, dict[str, Any]]:
    names = ("Tus-Resumable", *headers)
    shown = {name: {"schema": {"type": "string"}} for name in names}
    return {status: {"description": description, "headers": shown}}


@router.options(
    "",
    status_code=204,
    responses=_responses(204, "Versions, extensions and the maximum size.") | problems(400),
)
async def discover_uploads(platform: PlatformDep, _org: OrgSlug, _slug: DsSlug) -> Response:
    """Discover the tus version, extensions and maximum size; no login needed."""
    limit = platform.settings.uploads.max_object_bytes
    return Response(status_code=204, headers=tus.discovery_headers(limit))


@router.post(
    "",
    status_code=201,
    responses=_responses(201, "Created.", "Location", "Upload-Offset", "Upload-Expires")
    | problems(400, 401, 403, 404, 409, 412, 413, 415, 423, 429, 507),
    openapi_extra=_BODY,
)
async def create_upload(
    ctx: DatasetCtx,
    request: Request,
    _version: Version = None,
    _length: Length = None,
    _metadata: Metadata = None,
) -> Response:
    """Create a resumable upload; a body, if any, is its first part."""
    await ctx.authorize(Access.WRITE)
    if request.headers.get("content-length", "0") != "0" and not _has_bytes(request):
        return _wrong_type()
    header = request.headers.get("upload-metadata", "")
    metadata = tus.metadata_in(header)
    size_bytes = _length_in(request)
    if _has_bytes(request) and int(request.headers.get("content-length", "0")) > size_bytes:
        raise TooLarge(f"The body is longer than the announced size of {size_bytes} bytes.")
    progress = await ctx.platform.uploads.create(
        ctx.caller,
        ctx.org,
        ctx.slug,
        path=_path_in(metadata),
        size_bytes=size_bytes,
        client_metadata=header,
    )
    if _has_bytes(request):
        progress = await _append_first(ctx, progress, request)
    location = f"{ctx.address}/uploads/{progress.row.id}"
    return Response(status_code=201, headers={"Location": location, **_progress_headers(progress)})


@router.head(
    "/{uploadId}",
    responses=_responses(
        200, "The upload's offset.", "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires"
    )
    | problems(400, 401, 403, 404, 409, 412, 423),
)
async def get_upload(ctx: DatasetCtx, upload_id: UploadIdPath, _version: Version = None) -> Response:
    """Get an upload's offset: the number of bytes that are stored safely."""
    progress = await ctx.platform.uploads.status(ctx.caller, ctx.org, ctx.slug, UploadId(upload_id))
    return Response(
        status_code=200, headers={**_progress_headers(progress), **_description_headers(progress)}
    )


@router.patch(
    "/{uploadId}",
    status_code=204,
    responses=_responses(204, "Appended.", "Upload-Offset", "Upload-Expires")
    | problems(400, 401, 403, 404, 408, 409, 412, 413, 415, 423, 507),
    openapi_extra=_BODY,
)
async def append_to_upload(
    ctx: DatasetCtx,
    upload_id: UploadIdPath,
    request: Request,
    _version: Version = None,
    _offset: Offset = None,
) -> Response:
    """Append the body to an upload; with the last byte the upload becomes an entry."""
    await ctx.authorize(Access.WRITE)
    if not _has_bytes(request):
        return _wrong_type()
    offset = tus.count_in(request, "Upload-Offset")
    try:
        progress = await _append(ctx, UploadId(upload_id), request, offset=offset)
    except TimeoutError:
        return problem(
            408,
            "upload-silent",
            "No data arrived for too long. What arrived before is kept; resume at the upload's offset.",
        )
    return Response(status_code=204, headers=_progress_headers(progress))


@router.delete(
    "/{uploadId}",
    status_code=204,
    responses=_responses(204, "Deleted.") | problems(400, 401, 403, 404, 412),
)
async def delete_upload(ctx: DatasetCtx, upload_id: UploadIdPath, _version: Version = None) -> Response:
    """Terminate an upload; the entry of a completed one stays."""
    await ctx.platform.uploads.terminate(ctx.caller, ctx.org, ctx.slug, UploadId(upload_id))
    return Response(status_code=204)


@router.post(
    "/{uploadId}",
    status_code=204,
    responses=_responses(204, "As for the overriding method.", "Upload-Offset", "Upload-Expires")
    | problems(400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 423, 507),
    openapi_extra=_BODY,
)
async def override_method(
    ctx: DatasetCtx,
    upload_id: UploadIdPath,
    request: Request,
    _version: Version = None,
    _offset: Offset = None,
    _override: Override = None,
) -> Response:
    """`PATCH`, `DELETE` or `HEAD` for clients that can only send POST, chosen by `X-HTTP-Method-Override`."""
    await ctx.authorize(Access.WRITE)
    method = request.headers.get("x-http-method-override", "").upper()
    handlers: Mapping[str, Callable[[], Coroutine[Any, Any, Response]]] = {
        "PATCH": lambda: append_to_upload(ctx, upload_id, request),
        "DELETE": lambda: delete_upload(ctx, upload_id),
        "HEAD": lambda: get_upload(ctx, upload_id),
    }
    if method not in handlers:
        return problem(
            405,
            "method-not-allowed",
            "A POST to an upload needs 'X-HTTP-Method-Override: PATCH', 'DELETE' or 'HEAD'.",
            headers={"Allow": "HEAD, PATCH, DELETE"},
        )
    return await handlers[method]()


async def _append_first(ctx: DatasetContext, created: UploadProgress, request: Request) -> UploadProgress:
    """Appends the body of the creation request; on errors the upload is discarded, since its URL stays unknown."""
    uploads = ctx.platform.uploads
    try:
        return await _append(ctx, created.row.id, request, offset=0)
    except TimeoutError:  # the received bytes are good, and the client needs the URL to resume
        return await uploads.progress_of(created.row)
    except Exception:
        await uploads.discard(created.row)
        raise


async def _append(
    ctx: DatasetContext, upload_id: UploadId, request: Request, *, offset: int
) -> UploadProgress:
    return await ctx.platform.uploads.append(
        ctx.reauthenticate,
        ctx.org,
        ctx.slug,
        upload_id,
        offset=offset,
        content=_body(request),
        announced_bytes=int(request.headers.get("content-length", "0")),
    )


async def _body(request: Request) -> AsyncIterator[bytes]:
    """The body up to its end or the client's disconnection; received bytes count in either case."""
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        return


def _progress_headers(progress: UploadProgress) -> dict[str, str]:
    """The upload's offset and expiry time."""
    return {
        "Upload-Offset": str(progress.offset),
        "Upload-Expires": format_datetime(progress.expires_at, usegmt=True),
        "Cache-Control": "no-store",
    }


def _description_headers(progress: UploadProgress) -> dict[str, str]:
    """The upload's length and metadata, as its client announced them."""
    metadata = progress.row.client_metadata
    return {
        "Upload-Length": str(progress.row.size_bytes),
        **({"Upload-Metadata": metadata} if metadata else {}),
    }


def _path_in(metadata: Mapping[str, str]) -> str:
    path = metadata.get("path") or metadata.get("filename")
    if not path:
        raise InvalidInput(
            "Name the path in the dataset as 'path' (or 'filename') in 'Upload-Metadata'.",
            code="invalid-upload",
        )
    return path


def _length_in(request: Request) -> int:
    if "upload-defer-length" in request.headers:
        raise InvalidInput(
            "Deferred lengths are not supported; send 'Upload-Length' with the first request.",
            code="invalid-upload",
        )
    return tus.count_in(request, "Upload-Length")


def _has_bytes(request: Request) -> bool:
    return request.headers.get("content-type", "").lower() == tus.MEDIA_TYPE


def _wrong_type() -> Response:
    return problem(415, "not-offset-stream", f"Send the bytes with 'Content-Type: {tus.MEDIA_TYPE}'.")

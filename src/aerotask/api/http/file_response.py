"""File responses with ETags and ranges, opened before the headers are sent so that errors still get a status."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from aerotask.api.http.errors import problem
from aerotask.api.http.ranges import ByteRange, RangeResponse, select
from aerotask.blobs.blob_store import OpenBlob

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._ -]")


async def file_response(
    request: Request,
    content: OpenBlob,
    *,
    file_name: str,
    media_type: str,
    sha256: str,
) -> Response:
    """The download response for an open content, in full or in ranges; closes the content once it is sent."""
    etag = f'"{sha256}"'
    selection = select(request.method, _joined(request.headers), size_bytes=content.size_bytes, etag=etag)
    validators = {"ETag": etag, "Accept-Ranges": "bytes"}
    headers = {
        **validators,
        "Content-Disposition": attachment(file_name),
        # Uploaded HTML and SVG must not run scripts in the API's origin.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if selection.status in {412, 416}:
        await content.close()
        return _error_response(selection, validators, content.size_bytes)
    if selection.status == 304 or request.method == "HEAD":
        await content.close()
        return _bodiless_response(selection, headers, media_type, content.size_bytes)
    if selection.status == 206 and len(selection.spans) > 1:
        boundary = secrets.token_hex(16)
        parts = _Parts(content, selection.spans, media_type, boundary)
        headers["Content-Length"] = str(parts.length)
        body, media_type = parts.chunks(), f"multipart/byteranges; boundary={boundary}"
    else:
        span = selection.spans[0]
        headers["Content-Length"] = str(span.stop - span.start)
        if selection.status == 206:
            headers["Content-Range"] = _content_range(span, content.size_bytes)
        body = content.chunks(span.start, span.stop)
    return _ClosingResponse(content, body, selection.status, headers, media_type)


def attachment(file_name: str) -> str:
    """Content-Disposition of a download (RFC 6266), with an ASCII fallback for old clients."""
    plain = _NOT_PLAIN.sub("_", file_name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


class _ClosingResponse(StreamingResponse):
    """Streaming response that always closes its content, even if the client disconnects before the start."""

    def __init__(
        self,
        content: OpenBlob,
        body: AsyncIterator[bytes],
        status: int,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        super().__init__(body, status, headers, media_type, None)
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._content.close()


class _Parts:
    """Body of a `multipart/byteranges` response (RFC 9110, section 14.6)."""

    def __init__(
        self, content: OpenBlob, spans: tuple[ByteRange, ...], media_type: str, boundary: str
    ) -> None:
        self._content = content
        self._heads = [
            (
                span,
                f"--{boundary}\r\nContent-Type: {media_type}\r\n"
                f"Content-Range: {_content_range(span, content.size_bytes)}\r\n\r\n".encode(),
            )
            for span in spans
        ]
        self._tail = f"--{boundary}--\r\n".encode()

    @property
    def length(self) -> int:
        sizes = (len(head) + span.stop - span.start + 2 for span, head in self._heads)
        return sum(sizes) + len(self._tail)

    async def chunks(self) -> AsyncIterator[bytes]:
        for span, head in self._heads:
            yield head
            async for piece in self._content.chunks(span.start, span.stop):
                yield piece
            yield b"\r\n"
        yield self._tail


def _joined(headers: Headers) -> dict[str, str]:
    """Headers with repeated fields joined into one list (RFC 9110, section 5.3)."""
    return {name: ", ".join(headers.getlist(name)) for name in headers}


def _error_response(selection: RangeResponse, headers: Mapping[str, str], size_bytes: int) -> Response:
    if selection.status == 412:
        return problem(
            412, "precondition-failed", "The content's ETag doesn't match If-Match.", headers=headers
        )
    return problem(
        416,
        "range-not-satisfiable",
        f"The content has {size_bytes} bytes; no requested range lies within them.",
        headers={**headers, "Content-Range": f"bytes */{size_bytes}"},
    )


def _bodiless_response(
    selection: RangeResponse, headers: Mapping[str, str], media_type: str, size_bytes: int
) -> Response:
    if selection.status == 304:
        return Response(status_code=304, headers=headers)
    return Response(
        status_code=200,
        headers={**headers, "Content-Length": str(size_bytes)},
        media_type=media_type,
    )


def _content_range(span: ByteRange, size_bytes: int) -> str:
    return f"bytes {span.start}-{span.stop - 1}/{size_bytes}"

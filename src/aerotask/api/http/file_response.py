"""Answers that are files: opened before the headers go out, so that what is promised is also sent."""

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
    """What the request gets of the open content, as a download; closes the content when it is sent."""
    etag = f'"{sha256}"'
    chosen = select(request.method, _joined(request.headers), size_bytes=content.size_bytes, etag=etag)
    validators = {"ETag": etag, "Accept-Ranges": "bytes"}
    headers = {
        **validators,
        "Content-Disposition": attachment(file_name),
        # People upload HTML and SVG: nothing that is served here may run in our origin.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if chosen.status in {412, 416}:
        await content.close()
        return _refused(chosen, validators, content.size_bytes)
    if chosen.status == 304 or request.method == "HEAD":
        await content.close()
        return _without_content(chosen, headers, media_type, content.size_bytes)
    if chosen.status == 206 and len(chosen.spans) > 1:
        boundary = secrets.token_hex(16)
        parts = _Parts(content, chosen.spans, media_type, boundary)
        headers["Content-Length"] = str(parts.length)
        body, media_type = parts.chunks(), f"multipart/byteranges; boundary={boundary}"
    else:
        span = chosen.spans[0]
        headers["Content-Length"] = str(span.stop - span.start)
        if chosen.status == 206:
            headers["Content-Range"] = _content_range(span, content.size_bytes)
        body = content.chunks(span.start, span.stop)
    return _ClosingResponse(content, body, chosen.status, headers, media_type)


def attachment(file_name: str) -> str:
    """A Content-Disposition for a download (RFC 6266), with a plain form for old clients."""
    plain = _NOT_PLAIN.sub("_", file_name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


class _ClosingResponse(StreamingResponse):
    """Streams a content and closes it whatever happens, also when the client leaves before the start."""

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
    """The body of a `multipart/byteranges` answer (RFC 9110, section 14.6)."""

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
    """The headers with each that was sent in several lines as one list (RFC 9110, section 5.3)."""
    return {name: ", ".join(headers.getlist(name)) for name in headers}


def _refused(chosen: RangeResponse, headers: Mapping[str, str], size_bytes: int) -> Response:
    if chosen.status == 412:
        return problem(
            412, "precondition-failed", "The content is not the one that If-Match names.", headers=headers
        )
    return problem(
        416,
        "range-not-satisfiable",
        f"The content has {size_bytes} bytes; none of the asked-for ranges lies in it.",
        headers={**headers, "Content-Range": f"bytes */{size_bytes}"},
    )


def _without_content(
    chosen: RangeResponse, headers: Mapping[str, str], media_type: str, size_bytes: int
) -> Response:
    if chosen.status == 304:
        return Response(status_code=304, headers=headers)
    return Response(
        status_code=200,
        headers={**headers, "Content-Length": str(size_bytes)},
        media_type=media_type,
    )


def _content_range(span: ByteRange, size_bytes: int) -> str:
    return f"bytes {span.start}-{span.stop - 1}/{size_bytes}"

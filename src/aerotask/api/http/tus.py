"""Headers and versions of the tus protocol 1.0.0 (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from aerotask.api.http.closed_query import ClosedQueryRoute
from aerotask.api.http.errors import problem
from aerotask.domain.errors import InvalidInput

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration"
MEDIA_TYPE = "application/offset+octet-stream"
MAX_METADATA_BYTES = 8 * 1024


class TusRoute(ClosedQueryRoute):
    """Route that requires this tus version and names it in every response, errors included."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles requests of the same version; `OPTIONS`, which discovers the version, needs none."""

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Tus-Resumable"] = VERSION
            await send(message)

        if scope["method"] != "OPTIONS" and Headers(scope=scope).get("tus-resumable") != VERSION:
            rejection = problem(
                412,
                "tus-version",
                f"Send the header 'Tus-Resumable: {VERSION}'; no other version is supported.",
                headers={"Tus-Version": VERSION},
            )
            await rejection(scope, receive, send_with_version)
        else:
            await super().handle(scope, receive, send_with_version)


def discovery_headers(max_size_bytes: int) -> dict[str, str]:
    """Headers of the response to `OPTIONS`."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max_size_bytes),
        "Cache-Control": "no-store",
    }


def count_in(request: Request, name: str) -> int:
    """The value of a header that must be a non-negative integer.

    Raises:
        InvalidInput: the header is missing or not such a number.
    """
    value = request.headers.get(name, "")
    # 18 digits always fit into a signed 64-bit integer.
    if not (value.isascii() and value.isdecimal() and len(value) <= 18):
        raise InvalidInput(f"The header '{name}' must be a non-negative integer.", code="invalid-upload")
    return int(value)


def metadata_in(header: str) -> Mapping[str, str]:
    """The decoded pairs of an `Upload-Metadata` header.

    Raises:
        InvalidInput: the header is malformed or too long.
    """
    if len(header) > MAX_METADATA_BYTES:
        raise InvalidInput("The header 'Upload-Metadata' is too long.", code="invalid-upload")
    pairs: dict[str, str] = {}
    for item in filter(None, header.split(",")):
        key, _, value = item.strip().partition(" ")
        if not key or key in pairs:
            raise _malformed()
        try:
            pairs[key] = base64.b64decode(value, validate=True).decode()
        except ValueError as error:  # not Base64, or not UTF-8
            raise _malformed() from error
    return pairs


def _malformed() -> InvalidInput:
    return InvalidInput(
        "The header 'Upload-Metadata' must be a list of distinct keys, each followed by a space and its value in Base64.",
        code="invalid-upload",
    )

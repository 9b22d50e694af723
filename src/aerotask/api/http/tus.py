"""What every answer of the tus protocol 1.0.0 has in common (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from aerotask.api.http.errors import problem
from aerotask.domain.errors import InvalidInput

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration"
MEDIA_TYPE = "application/offset+octet-stream"
MAX_METADATA_BYTES = 8 * 1024


class TusRoute(APIRoute):
    """A route that speaks this version only, and says so in all that it answers, errors included."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose client speaks the same version; `OPTIONS` is how clients find out."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Tus-Resumable"] = VERSION
            await send(message)

        if scope["method"] != "OPTIONS" and Headers(scope=scope).get("tus-resumable") != VERSION:
            refusal = problem(
                412,
                "tus-version",
                f"Send the header 'Tus-Resumable: {VERSION}'; no other version is spoken here.",
                headers={"Tus-Version": VERSION},
            )
            await refusal(scope, receive, send_marked)
        else:
            await super().handle(scope, receive, send_marked)


def discovery_headers(max_size_bytes: int) -> dict[str, str]:
    """What `OPTIONS` tells."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max_size_bytes),
        "Cache-Control": "no-store",
    }


def count_in(request: Request, name: str) -> int:
    """A header that is a non-negative integer.

    Raises:
        InvalidInput: it is missing or isn't one.
    """
    value = request.headers.get(name, "")
    # No more digits than a signed 64-bit number has.
    if not (value.isascii() and value.isdecimal() and len(value) <= 18):
        raise InvalidInput(f"The header '{name}' must be a non-negative integer.", code="invalid-upload")
    return int(value)


def metadata_in(header: str) -> Mapping[str, str]:
    """The pairs of an `Upload-Metadata` header: keys, and values in Base64.

    Raises:
        InvalidInput: it is malformed.
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
        except ValueError as error:  # no Base64, or no UTF-8 in it
            raise _malformed() from error
    return pairs


def _malformed() -> InvalidInput:
    return InvalidInput(
        "The header 'Upload-Metadata' must be a list of different keys, each followed by a space and its value in Base64.",
        code="invalid-upload",
    )

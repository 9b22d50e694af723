"""Cross-origin reading of what needs no header: public contents, and addresses that hold a token or a link.

It is safe since cookies are never used for authentication: a page of another origin reads only what its visitor's
browser could be sent to anyway.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

EXPOSED = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Date",
    "ETag",
    "Last-Modified",
    "Link",
    "Location",
    "Retry-After",
    "X-Total-Count",
)
"""Response headers that readers of COGs, PMTiles and ZIPs ask for, and those of lists and limits."""

CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": ", ".join(EXPOSED),
    "Cross-Origin-Resource-Policy": "cross-origin",
}
# An address that is a credential: neither shared caches nor search engines may keep what it shows.
_SECRET = {**CROSS_ORIGIN, "X-Robots-Tag": "noindex"}
RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

_READABLE = re.compile(
    r"/links/[^/]+/.+"
    r"|/orgs/[^/]+/ds/[^/]+/(?:(?:obj|build|tiles)/.+|tilejson\.json|thumb"
    r"|tasks/[^/]+/(?:(?:result|assets|tiles)(?:/.+)?|tilejson\.json|log|output|events))"
)
# Headers of a reader. `Authorization` is not among them: pages that send it need a configured origin.
_READER_HEADERS = frozenset(
    {"accept", "cache-control", "if-match", "if-modified-since", "if-none-match", "if-range", "last-event-id"}
    | {"if-unmodified-since", "pragma", "range"}
)
_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": ", ".join(sorted(_READER_HEADERS)),
    "Access-Control-Max-Age": "7200",
}


def allow_cross_origin(request: HTTPConnection) -> None:
    """Lets pages of any origin read the response: anybody may, without credentials."""
    request.state.cross_origin = CROSS_ORIGIN


def mark_secret_address(request: HTTPConnection) -> None:
    """As `allow_cross_origin`, for an address with a valid token or link; its response is for one reader alone."""
    request.state.cross_origin = _SECRET


def with_marked_headers(scope: Scope, headers: RawHeaders) -> RawHeaders:
    """The headers of a response, with those that its request was marked for."""
    marked: dict[str, str] | None = scope.get("state", {}).get("cross_origin")
    if marked is None:
        return headers
    answer = MutableHeaders(raw=list(headers))
    for name, value in marked.items():
        answer.setdefault(name, value)
    if marked is _SECRET:
        answer["Cache-Control"] = _private(answer.get("cache-control", ""))
    return answer.raw


def _private(cache_control: str) -> str:
    """The Cache-Control for an address that is a credential: shared caches must not keep its response."""
    parts = [part.strip() for part in cache_control.split(",")]
    if "no-store" in parts:
        return cache_control
    kept = [
        part for part in parts if part not in {"", "public", "private"} and not part.startswith("s-maxage")
    ]
    return ", ".join(["private", *(kept or ["no-cache"])])


def preflight(scope: Scope) -> Response | None:
    """The response to a browser's question whether a page may read this address; None for all other requests."""
    if scope["method"] != "OPTIONS" or not _READABLE.fullmatch(scope["path"]):
        return None
    headers = Headers(scope=scope)
    asked = headers.get("access-control-request-headers", "").lower().split(",")
    if headers.get("access-control-request-method") not in {"GET", "HEAD"}:
        return None
    if not {name.strip() for name in asked} - {""} <= _READER_HEADERS:
        return None
    return Response(status_code=204, headers=_PREFLIGHT)

"""Request limits and security headers for every response, including errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aerotask.api.http.cross_origin import EXPOSED, preflight, with_marked_headers
from aerotask.api.http.errors import problem
from aerotask.config import Settings

if TYPE_CHECKING:
    from starlette.responses import Response

# Browsers may do nothing with an API response; pages set a policy of their own.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_OVER_TLS = (b"strict-transport-security", b"max-age=31536000")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_EXPOSED = (
    *EXPOSED,
    "Tus-Resumable",
    "Tus-Version",
    "Tus-Extension",
    "Tus-Max-Size",
    "Upload-Offset",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Expires",
)

# A registered name or an IPv4 address, or an IP literal, with an optional port (RFC 9110, 7.2, and RFC 3986, 3.2.2).
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


@dataclass(frozen=True, slots=True)
class SecurityMiddleware:
    """ASGI middleware around the whole app, its error handling included."""

    app: ASGIApp
    max_url_bytes: int
    max_header_bytes: int
    long_url_hints: Mapping[str, str]
    """Advice for URLs that are too long, by the end of their path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks a request's URL and headers, and adds security headers to the response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        tls = scope["scheme"] == "https"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = with_marked_headers(scope, message["headers"])
                message["headers"] = _with_security_headers(headers, tls=tls)
            await send(message)

        respond = self._rejection(scope) or preflight(scope) or self.app
        await respond(scope, receive, send_with_headers)

    def _rejection(self, scope: Scope) -> Response | None:
        query: bytes = scope["query_string"]
        if len(scope["raw_path"]) + len(query) > self.max_url_bytes:
            detail = f"The URL is longer than the limit of {self.max_url_bytes} bytes."
            return problem(414, "url-too-long", detail + self._hint(scope["path"]))
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self.max_header_bytes:
            detail = f"The headers are longer than the limit of {self.max_header_bytes} bytes."
            return problem(431, "headers-too-large", detail)
        if fault := _host_fault(scope):
            return problem(400, "invalid-host", fault)
        if "\0" in scope["path"] or b"%00" in query or b"\0" in query:
            return problem(400, "invalid-request", "The URL contains a NUL character.")
        if not (_is_utf8(scope["raw_path"]) and _is_utf8(query)):
            return problem(400, "invalid-request", "The URL is not valid UTF-8.")
        return None

    def _hint(self, path: str) -> str:
        return next((f" {hint}" for end, hint in self.long_url_hints.items() if path.endswith(end)), "")


def _host_fault(scope: Scope) -> str | None:
    """The error of a request whose host is missing or ambiguous, which a proxy may read otherwise (RFC 9112, 3.2)."""
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        return "The request has several Host headers; send one."
    if not hosts:
        # HTTP/1.0, which some health checks still use, has no such header.
        return None if scope["http_version"] == "1.0" else "The request has no Host header; send one."
    if not _HOST.fullmatch(hosts[0]):
        return "The Host header is not a host name or address with an optional port."
    return None


def _is_utf8(encoded: bytes) -> bool:
    """Whether percent-encoded bytes are UTF-8; the framework would replace invalid bytes with U+FFFD."""
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return False
    return True


def add_security(app: ASGIApp, settings: Settings, *, long_url_hints: Mapping[str, str]) -> ASGIApp:
    """The app behind the security middleware and, if origins are configured, CORS."""
    origins = [origin.strip() for origin in settings.http.cors_origins.split(",") if origin.strip()]
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            # Callers are authenticated by a header that pages set themselves, never by cookies.
            allow_headers=["*"],
            allow_credentials=False,
            expose_headers=_EXPOSED,
        )
    return SecurityMiddleware(
        app, settings.http.max_url_bytes, settings.http.max_header_bytes, long_url_hints
    )


def _with_security_headers(headers: list[tuple[bytes, bytes]], *, tls: bool) -> list[tuple[bytes, bytes]]:
    present = Headers(raw=list(headers))
    security = (*_HEADERS, _OVER_TLS) if tls else _HEADERS
    return [*headers, *(header for header in security if header[0].decode() not in present)]

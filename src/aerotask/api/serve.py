"""API server process: uvicorn with bounded request heads and a graceful shutdown."""

from __future__ import annotations

import socket
from contextlib import suppress

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aerotask.api.app import create_app
from aerotask.api.http.errors import problem
from aerotask.api.http.exposure import warn_if_exposed
from aerotask.blobs.storage_root import StorageRoot
from aerotask.config import Settings
from aerotask.sandbox.confinement import log_confinement
from aerotask.sandbox.kernel.undumpable import make_undumpable
from aerotask.wiring import Platform

GRACE_S = 10
"""Time for running requests to finish after SIGTERM."""
# Bounds memory; the smaller limits of the settings on URLs and headers are checked by the app, with a clear error.
MAX_HEAD_BYTES = 256 * 1024

_log = structlog.get_logger(__name__)


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve the API on a listening socket until SIGTERM or SIGINT; running requests get `GRACE_S` to finish."""
    make_undumpable()
    log_confinement(StorageRoot(settings.storage_folder).work, with_folders=False)
    warn_if_exposed(settings, listener.getsockname()[0])
    app = create_app(settings)
    config = server_config(app, settings)
    _log.info("api.listening", address=":".join(map(str, listener.getsockname()[:2])))
    # uvicorn raises SIGINT again after its shutdown.
    with suppress(KeyboardInterrupt):
        ApiServer(config, app).run(sockets=[listener])


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """The uvicorn configuration; proxy headers are trusted only from the proxies in the settings."""
    return uvicorn.Config(
        app,
        port=0,
        loop="uvloop",
        http=BoundedHttp,
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=bool(settings.http.trusted_proxies),
        forwarded_allow_ips=settings.http.trusted_proxies,
    )


class BoundedHttp(HttpToolsProtocol):
    """HTTP protocol that bounds the bytes of a request's head and those between pieces of its body.

    Heads that are slightly too long reach the app, which answers with a proper error. Trailers are dropped
    (RFC 9110, 6.5.1): uvicorn would append them to the headers, where they look as if a proxy had checked them.
    """

    _bytes_since_body = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        """Parses received bytes; closes the connection when head or trailer exceed `MAX_HEAD_BYTES`."""
        self._bytes_since_body += len(data)
        super().data_received(data)
        if self._bytes_since_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head or the trailer of the request is too long.")

    def send_400_response(self, msg: str) -> None:
        """Sends a problem document for malformed HTTP, which never reaches the app."""
        response = problem(400, "malformed-http", msg)
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%bconnection: close\r\n\r\n" % head)
        self.transport.write(bytes(response.body))
        self.transport.close()

    def on_message_begin(self) -> None:
        """Resets the counters at the start of a request."""
        self._bytes_since_body, self._in_head = 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Passes header fields on and drops those of a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Marks the end of the head; later fields are trailers."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Passes a piece of the body on; the app bounds the body's length."""
        self._bytes_since_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Resets the counters for the next request of the connection."""
        self._bytes_since_body, self._in_head = 0, True
        super().on_message_complete()


class ApiServer(uvicorn.Server):
    """uvicorn server that ends long polls and event streams at once on shutdown, not after the grace period."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes task subscriptions, then shuts uvicorn down."""
        platform: Platform = self._app.state.platform
        platform.watch.notifications.close()
        await super().shutdown(sockets)

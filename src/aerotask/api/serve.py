"""The API process."""

from __future__ import annotations

import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aerotask.api.app import create_app
from aerotask.api.http.errors import problem
from aerotask.config import Settings
from aerotask.sandbox.confinement import tell_whether_children_are_confined
from aerotask.sandbox.undumpable import hide_from_children
from aerotask.wiring import Platform

GRACE_S = 10
# Beyond the settings' limits on addresses and headers, which are for people; this one is for memory.
MAX_HEAD_BYTES = 256 * 1024


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve the API until SIGTERM or SIGINT; requests under way get `GRACE_S` to end."""
    hide_from_children()
    tell_whether_children_are_confined()
    app = create_app(settings)
    config = server_config(app, settings, host=host, port=port)
    # uvicorn raises SIGINT anew once it has stopped.
    with suppress(KeyboardInterrupt):
        ApiServer(config, app).run()


def server_config(app: FastAPI, settings: Settings, *, host: str = "127.0.0.1", port: int) -> uvicorn.Config:
    """How the app is served: proxies are believed only if the settings name them."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedHttp,
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
    )


class BoundedHttp(HttpToolsProtocol):
    """Collects neither a request's head nor what stands between pieces of its body without end.

    What is a bit too long is refused with words by the app. Trailers are dropped (RFC 9110, 6.5.1): uvicorn
    would append them to the headers, where they pass for what a proxy has checked.
    """

    _bytes_since_body = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._bytes_since_body += len(data)
        super().data_received(data)
        if self._bytes_since_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head or the trailer of the request is too long.")

    def send_400_response(self, msg: str) -> None:
        """Refuse what isn't HTTP, or has no end, as every error is told; the app never saw it."""
        answer = problem(400, "malformed-http", msg)
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%bconnection: close\r\n\r\n" % head)
        self.transport.write(bytes(answer.body))
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._bytes_since_body, self._in_head = 0, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailer, which counts for nothing."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head has ended."""
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of its body, whose length the app bounds."""
        self._bytes_since_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It has ended; another one may follow."""
        self._bytes_since_body, self._in_head = 0, True
        super().on_message_complete()


class ApiServer(uvicorn.Server):
    """Ends at the beginning of its grace time what would go on until the end of it: those who wait for news."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the watches, then what uvicorn ends."""
        platform: Platform = self._app.state.platform
        platform.watch.changes.close()
        await super().shutdown(sockets)

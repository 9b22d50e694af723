"""Callback receiver: a real HTTP server in its own thread, with responses that the test chooses."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Received:
    """A received request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """Received requests, and the next response statuses; the last one is repeated."""

    statuses: Sequence[int]
    location: str = ""
    received: list[Received] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)
    """Sends no response while this is set …"""
    released: threading.Event = field(default_factory=threading.Event)
    """… until this is, at the latest at the end of the test."""
    port: int = 0

    def status_of(self, number: int) -> int:
        """The response status of the request of that number, from 0."""
        return self.statuses[min(number, len(self.statuses) - 1)]


@contextmanager
def running_receiver(
    *statuses: int, location: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver on a free port of 127.0.0.1 that responds with these statuses in turn."""
    receiver = Receiver(statuses or (204,), location)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(Received(self.path, headers, body))
            number = len(receiver.received) - 1
            if receiver.hanging.is_set():
                receiver.released.wait()
            self.send_response(receiver.status_of(number))
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815  what a redirect that was followed would ask

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignore clients that disconnect or reject the certificate: some tests do so on purpose."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.released.set()
            server.shutdown()
            thread.join()

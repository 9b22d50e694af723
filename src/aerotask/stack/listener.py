"""Listening socket of the API, opened before anything else and kept while the API restarts."""

from __future__ import annotations

import errno
import os
import socket

from aerotask.domain.errors import Conflict, InvalidInput

# The kernel cuts it down to its own limit.
_BACKLOG = 2048
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  recognised, not bound


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens on the address; port 0 picks a free one.

    Raises:
        Conflict: the port is in use.
        InvalidInput: the address doesn't exist, or may not be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InvalidInput(
            f"There is no address '{host}' to listen on ({error}); choose another --host."
        ) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"Port {port} of {host} is in use, perhaps by an Aerotask that is already running; stop that program, "
                "or choose another port with --port.",
                code="port-in-use",
            ) from error
        raise InvalidInput(
            f"Aerotask can't listen on port {port} of {host}: {os.strerror(error.errno or 0)}. Choose another --host "
            "or --port.",
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL for clients on this machine."""
    host, port = listener.getsockname()[:2]
    host = _ANY.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

"""What the app keeps for its requests."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from aerotask.wiring import Platform


def platform_of(connection: HTTPConnection) -> Platform:
    """The platform that serves the connection's app."""
    platform: Platform = connection.app.state.platform
    return platform

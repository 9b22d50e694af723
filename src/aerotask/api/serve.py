"""The API process."""

from __future__ import annotations

import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from aerotask.api.app import create_app
from aerotask.config import Settings
from aerotask.sandbox.hiding import hide_from_children
from aerotask.wiring import Platform

GRACE_S = 10


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve the API until SIGTERM or SIGINT; requests under way get `GRACE_S` to end."""
    hide_from_children()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_S,
    )
    # uvicorn raises SIGINT anew once it has stopped.
    with suppress(KeyboardInterrupt):
        ApiServer(config, app).run()


class ApiServer(uvicorn.Server):
    """Ends at the beginning of its grace time what would go on until the end of it: those who wait for news."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the watches, then what uvicorn ends."""
        platform: Platform = self._app.state.platform
        platform.follow.changes.close()
        await super().shutdown(sockets)

"""LISTEN/NOTIFY: a session outside the pool that reconnects when its connection is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import asyncpg
import structlog
from sqlalchemy.engine import make_url

from aerotask.db.engine import connect_args

RETRY_S = 0.25
# Interval of probes, which detect a connection that was lost without an error.
PROBE_S = 5.0
PROBE_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)
OnNotify: TypeAlias = Callable[[str], None]
AnyConnection: TypeAlias = "asyncpg.Connection[Any]"


async def _accept(_connection: AnyConnection) -> bool:
    return True


class Listener:
    """Calls each channel's handler with the payload of its notifications while `run` runs.

    Notifications sent while there is no connection are lost: check for missed changes in `on_listening`.
    """

    def __init__(
        self,
        url: str,
        *,
        application: str,
        channels: Mapping[str, OnNotify],
        prepare: Callable[[AnyConnection], Awaitable[bool]] = _accept,
    ) -> None:
        """Each new connection is passed to `prepare` before it listens; False closes it and reconnects later."""
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._application = application
        self._channels = channels
        self._prepare = prepare

    async def run(self, on_listening: Callable[[], None]) -> None:
        """Keeps the session open until cancelled; calls `on_listening` each time it starts to listen."""
        while True:
            try:
                await self._session(on_listening)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning(
                    "listen.connection_lost", application=self._application, error=str(error), retry_s=RETRY_S
                )
            await asyncio.sleep(RETRY_S)

    async def _session(self, on_listening: Callable[[], None]) -> None:
        connection = await asyncpg.connect(self._dsn, **connect_args(self._application))
        try:
            if not await self._prepare(connection):
                return
            for channel, on_notify in self._channels.items():
                await connection.add_listener(channel, _listener(on_notify))
            on_listening()
            await _until_terminated(connection)
        finally:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=1)


async def _until_terminated(connection: AnyConnection) -> None:
    terminated = asyncio.Event()
    connection.add_termination_listener(lambda _connection: terminated.set())
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_S):
                await terminated.wait()
            return
        await connection.execute("SELECT 1", timeout=PROBE_TIMEOUT_S)


def _listener(on_notify: OnNotify) -> Callable[..., None]:
    def listen(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        on_notify(str(payload))

    return listen

"""A session with Postgres outside the pool, which hears what is told on channels and outlives its connection."""

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
# How often the session is tried, so that a connection that died without a word is noticed.
PROBE_S = 5.0
PROBE_TIMEOUT_S = 5.0

_log = structlog.get_logger(__name__)
Heard: TypeAlias = Callable[[str], None]
AnyConnection: TypeAlias = "asyncpg.Connection[Any]"


async def _at_once(_connection: AnyConnection) -> bool:
    return True


class Listener:
    """Calls each channel's function with what is told there (`NOTIFY`), as long as `run` runs.

    What is told while there is no connection is lost: whoever runs it must look for themselves when it
    begins (again).
    """

    def __init__(
        self,
        url: str,
        *,
        application: str,
        channels: Mapping[str, Heard],
        prepare: Callable[[AnyConnection], Awaitable[bool]] = _at_once,
    ) -> None:
        """`prepare` is asked of each new connection before it listens; False gives the connection up."""
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._application = application
        self._channels = channels
        self._prepare = prepare

    async def run(self, on_begin: Callable[[], None]) -> None:
        """Keep the session open until cancelled; `on_begin` is called whenever it begins to listen."""
        while True:
            try:
                await self._session(on_begin)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning(
                    "listening.lost", application=self._application, error=str(error), retry_s=RETRY_S
                )
            await asyncio.sleep(RETRY_S)

    async def _session(self, on_begin: Callable[[], None]) -> None:
        connection = await asyncpg.connect(self._dsn, **connect_args(self._application))
        try:
            if not await self._prepare(connection):
                return
            for channel, heard in self._channels.items():
                await connection.add_listener(channel, _listener(heard))
            on_begin()
            await _until_it_ends(connection)
        finally:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=1)


async def _until_it_ends(connection: AnyConnection) -> None:
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _connection: ended.set())
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_S):
                await ended.wait()
            return
        await connection.execute("SELECT 1", timeout=PROBE_TIMEOUT_S)


def _listener(heard: Heard) -> Callable[..., None]:
    def listen(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard(str(payload))

    return listen

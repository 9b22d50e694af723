"""Worker session: a Postgres connection that proves that the worker is alive, and receives its notifications."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aerotask.db.listen import AnyConnection, Listener, OnNotify
from aerotask.db.locks import LockSpace


class WorkerSession:
    """Holds the advisory lock of a worker's number while the process lives.

    Postgres frees the lock within milliseconds of the process's death, which tells other workers. A broken
    connection is opened again; meanwhile the heartbeat proves that the worker is alive.
    """

    def __init__(self, url: str, *, worker_no: int, channels: Mapping[str, OnNotify]) -> None:
        self._worker_no = worker_no
        self._session = Listener(
            url, application="aerotask worker presence", channels=channels, prepare=self._lock
        )

    async def run(self, on_present: Callable[[], None]) -> None:
        """Keep the session open until cancelled; `on_present` is called whenever it is established."""
        await self._session.run(on_present)

    async def _lock(self, connection: AnyConnection) -> bool:
        # Fails while Postgres has not yet ended our own former session.
        locked: bool = await connection.fetchval(
            "SELECT pg_try_advisory_lock($1, $2)", int(LockSpace.WORKER), self._worker_no
        )
        return locked

"""Context managers for the embedded servers of one folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aerotask.stack.folder import OwnedFolder
from aerotask.stack.postgres import NOT_DURABLE, EmbeddedPostgres
from aerotask.stack.valkey import EmbeddedValkey


@dataclass(frozen=True, slots=True)
class LocalServers:
    """A running Postgres and a running Valkey."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    def stopped_part(self) -> str | None:
        """The name of a server that has stopped unexpectedly, or None."""
        if self.postgres.exit_status is not None:
            return "Postgres"
        return "Valkey" if self.valkey.exit_status is not None else None


@contextmanager
def running_servers(folder: OwnedFolder, *, durable: bool = True) -> Iterator[LocalServers]:
    """Start both servers, and stop them at the end of the block; without `durable` a crash loses data."""
    with (
        running_valkey(folder, durable=durable) as valkey,
        running_postgres(folder, durable=durable) as postgres,
    ):
        yield LocalServers(postgres, valkey)


@contextmanager
def running_postgres(folder: OwnedFolder, *, durable: bool = True) -> Iterator[EmbeddedPostgres]:
    """Start a Postgres, and stop it at the end of the block."""
    server = EmbeddedPostgres(folder, options=() if durable else NOT_DURABLE)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def running_valkey(folder: OwnedFolder, *, durable: bool = True) -> Iterator[EmbeddedValkey]:
    """Start a Valkey, and stop it at the end of the block."""
    server = EmbeddedValkey(folder, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.stop()

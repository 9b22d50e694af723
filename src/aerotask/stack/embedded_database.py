"""Database of a data folder, whether its stack is running or stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aerotask.domain.errors import InvalidInput
from aerotask.stack.folder import FolderInUse, OwnedFolder
from aerotask.stack.postgres import database_exists, url_file
from aerotask.stack.servers import running_postgres


@contextmanager
def embedded_database(data: Path) -> Iterator[str]:
    """URL of the folder's database; its Postgres is started for the block unless the stack is running.

    Raises:
        InvalidInput: the folder has no database.
    """
    if not database_exists(data):
        raise InvalidInput(
            f"{data} holds no database of `aerotask up`; name its data folder with --data, or set "
            "AEROTASK_DATABASE_URL to your own server and leave out --data."
        )
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(OwnedFolder(data))
        except FolderInUse:
            yield _url_of_running(data)
        else:
            yield stack.enter_context(running_postgres(folder)).url


def _url_of_running(data: Path) -> str:
    try:
        return url_file(data).read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise InvalidInput(
            f"The stack of {data} is starting or stopping, or uses another database; try again, or set "
            "AEROTASK_DATABASE_URL and leave out --data."
        ) from error

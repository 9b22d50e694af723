"""Database of a stack that an earlier version, run by root, kept under /var/tmp."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import structlog

from aerotask.domain.errors import Unavailable
from aerotask.stack.folder import OwnedFolder

_log = structlog.get_logger(__name__)


def adopt_old_database(folder: OwnedFolder, target: Path) -> None:
    """Move the database from the earlier place to `target`, and remove what else is there; no server may run on it.

    Raises:
        Unavailable: there is a database in both places.
    """
    database = folder.old_database()
    if database is not None:
        if target.exists():
            raise Unavailable(
                f"There are two databases, {target} and {database} of an earlier version; move away the one that you "
                "don't need."
            )
        _log.info("postgres.moving", source=str(database), target=str(target))
        move(database, target)
    folder.remove_outside()


def move(database: Path, target: Path) -> None:
    """Move the database, within its file system or to another one."""
    try:
        database.rename(target)
    except OSError:
        copy_database(database, target)


def copy_database(database: Path, target: Path) -> None:
    """Move the database to another file system, with its owner; `target` exists only once it is complete."""
    fresh = target.with_name("data.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(database, fresh, symlinks=True)
    owner = database.stat()
    for path, folders, files in os.walk(fresh):
        for name in (".", *folders, *files):
            os.chown(Path(path) / name, owner.st_uid, owner.st_gid, follow_symlinks=False)
    os.sync()
    fresh.rename(target)
    shutil.rmtree(database)

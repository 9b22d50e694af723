"""Account that Postgres runs as when the supervisor is root, since it refuses to run as root."""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import suppress
from pathlib import Path

from aerotask.domain.errors import Unavailable
from aerotask.stack.processes import Account


def account_for(data: Path, database: Path) -> Account | None:
    """The owner of the database, else that of the data folder, else `nobody`; None unless this process is root.

    So a stack that a user has made stays the user's when root starts it.

    Raises:
        Unavailable: there is no such account, or it couldn't reach the folder.
    """
    if os.geteuid() != 0:
        return None
    if sys.platform != "linux":  # an inherited descriptor leads nowhere else
        raise Unavailable(
            "The embedded Postgres can't be run by root on this system; start Aerotask as an ordinary user, or set "
            "AEROTASK_DATABASE_URL to your own server."
        )
    if database.is_dir():
        owner = database.stat()
        return Account(owner.st_uid, owner.st_gid)
    with suppress(KeyError):  # initdb needs an account with a name
        entry = pwd.getpwuid(data.stat().st_uid)
        if entry.pw_uid != 0:
            return Account(entry.pw_uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise cannot_run(error) from error
    return Account(entry.pw_uid, entry.pw_gid)


def make_folder_of(account: Account | None, folder: Path) -> None:
    """Make a folder that only the account can enter, besides root.

    Raises:
        Unavailable: the file system or the machine doesn't allow giving it to the account.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        try:
            os.chown(folder, account.uid, account.gid)
        except OSError as error:
            raise cannot_run(error) from error


def cannot_run(error: Exception) -> Unavailable:
    """The error for a machine on which root can't run the embedded Postgres."""
    return Unavailable(
        f"The embedded Postgres can't run here ({error}): Postgres refuses to run as root, and this machine doesn't "
        "allow switching to another user. Set AEROTASK_DATABASE_URL to your own server."
    )

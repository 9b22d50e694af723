"""Dump of a database with `pg_dump`, and its restoration with `pg_restore`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sqlalchemy.engine import make_url

from aerotask.domain.errors import Unavailable


async def dump_database(url: str, file: Path, *, programs: Path, snapshot: str) -> None:
    """Writes the database as of the exported snapshot to `file`, in pg_dump's custom format.

    `programs` is the folder of Postgres's programs, of the server's version or a newer one.

    Raises:
        Unavailable: pg_dump can't be run, or failed.
    """
    arguments = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
    await _run(programs / "pg_dump", *arguments, f"--file={file}", url=url)


async def restore_database(url: str, file: Path, *, programs: Path) -> None:
    """Loads a dump into an empty database, whole or not at all.

    Raises:
        Unavailable: pg_restore can't be run, or failed; the database is as before.
    """
    arguments = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
    await _run(programs / "pg_restore", *arguments, os.fspath(file), url=url)


async def _run(program: Path, *arguments: str, url: str) -> None:
    address = make_url(url)
    # Other users of the machine can read a process's arguments, but not its environment.
    password = {} if address.password is None else {"PGPASSWORD": str(address.password)}
    target = address.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            f"--dbname={target}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **password},
        )
    except OSError as error:
        raise Unavailable(f"{program.name} can't be run ({error}).") from error
    try:
        _, output = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise Unavailable(f"{program.name} failed: {output.decode(errors='replace').strip()}")

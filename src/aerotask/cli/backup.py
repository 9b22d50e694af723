"""Commands that back an installation up and restore it elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aerotask.cli.console import InstallationData, err, installation_settings, load_settings, out

if TYPE_CHECKING:
    from aerotask.config import Settings
    from aerotask.services.storage.backup import OnProgress
    from aerotask.services.storage.backup_files import Manifest
    from aerotask.services.storage.backup_source import BackupSource
    from aerotask.services.storage.backup_target import BackupTarget

_GB = 1e9


@dataclass(frozen=True, slots=True)
class _Target:
    """Database and storage of an installation that is restored."""

    database_url: str
    storage: Path


def backup(
    target: Annotated[
        Path,
        typer.Argument(
            help="A folder, which may hold an earlier backup, or a new file whose name ends in .tar."
        ),
    ],
    *,
    data: InstallationData = None,
) -> None:
    """Back up the database, the stored files and the secret key, while everything runs; an interrupted run is continued."""
    from aerotask.services.storage.backup_target import open_target  # noqa: PLC0415  only for these commands

    with (
        installation_settings(data) as settings,
        open_target(target) as opened,
        _progress("Copying files") as on_progress,
    ):
        manifest = asyncio.run(_back_up(settings, opened, on_progress))
    out.print(
        f"Backed up {manifest.blobs:,} files, {manifest.size_bytes / _GB:,.1f} GB, and the database to "
        f"[bold]{escape(str(target))}[/bold]."
    )
    out.print("It holds the secret key and the password hashes: keep it as safe as the installation itself.")
    for fault, keys in (("missing from the storage", manifest.missing), ("damaged", manifest.damaged)):
        if keys:
            err.print(
                f"[red]{len(keys):,} files are {fault} and not in the backup; `aerotask storage verify` names them.[/red]"
            )
    if manifest.missing or manifest.damaged:
        raise typer.Exit(1)


def restore(
    source: Annotated[
        Path, typer.Argument(help="A folder or file that `aerotask backup` has written.", exists=True)
    ],
    *,
    data: InstallationData = None,
) -> None:
    """Restore a backup into an empty database and an empty storage; an interrupted run is continued."""
    from aerotask.services.storage.backup_files import SECRET_KEY  # noqa: PLC0415  as above
    from aerotask.services.storage.backup_source import open_source  # noqa: PLC0415

    with open_source(source) as opened, _empty_installation(data) as target:
        with _progress("Copying files") as on_progress:
            asyncio.run(_restore(target, opened, on_progress))
        if data is not None:
            opened.copy_file(SECRET_KEY, data / SECRET_KEY)
            (data / SECRET_KEY).chmod(0o600)
    out.print(f"Restored the backup of {opened.manifest.created_at} with {opened.manifest.blobs:,} files.")
    if data is not None:
        out.print(f"Start it with: aerotask up --data {escape(str(data))}", soft_wrap=True)
    else:
        out.print(
            f"Set AEROTASK_SECRET_KEY to the content of the backup's {SECRET_KEY}, or every session and signing key "
            "of webhooks becomes invalid; then run `aerotask migrate` and start the processes."
        )


@contextmanager
def _empty_installation(data: Path | None) -> Iterator[_Target]:
    """The data folder of a new stack, with its Postgres running, or the installation of the settings."""
    if data is None:
        settings = load_settings()
        yield _Target(settings.database_url.get_secret_value(), settings.storage_folder)
        return
    from aerotask.stack.folder import OwnedFolder  # noqa: PLC0415  as above
    from aerotask.stack.servers import running_postgres  # noqa: PLC0415
    from aerotask.stack.stack import storage_folder  # noqa: PLC0415

    with OwnedFolder(data) as folder, running_postgres(folder) as postgres:
        yield _Target(postgres.url, storage_folder(data).absolute())


@contextmanager
def _progress(description: str) -> Iterator[OnProgress]:
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as shown:
        bar = shown.add_task(description, total=None)
        yield lambda done, total: shown.update(bar, completed=done, total=total)


async def _back_up(settings: Settings, target: BackupTarget, on_progress: OnProgress) -> Manifest:
    from aerotask.stack.postgres_programs import find_programs  # noqa: PLC0415  as above
    from aerotask.wiring import open_backup_service  # noqa: PLC0415

    async with open_backup_service(settings, find_programs("pg_dump")) as service:
        return await service.back_up(target, on_progress)


async def _restore(target: _Target, source: BackupSource, on_progress: OnProgress) -> None:
    from aerotask.stack.postgres_programs import find_programs  # noqa: PLC0415  as above
    from aerotask.wiring import open_restore_service  # noqa: PLC0415

    opening = open_restore_service(target.database_url, target.storage, find_programs("pg_restore"))
    async with opening as service:
        await service.restore(source, on_progress)

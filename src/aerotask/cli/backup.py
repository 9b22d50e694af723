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

from aerotask.cli.console import err, load_settings, out

if TYPE_CHECKING:
    from aerotask.services.storage.backup import OnProgress
    from aerotask.services.storage.backup_files import Manifest
    from aerotask.services.storage.backup_source import BackupSource
    from aerotask.services.storage.backup_target import BackupTarget

_Data = Annotated[
    Path | None,
    typer.Option(
        help="The data folder of `aerotask up`, instead of AEROTASK_DATABASE_URL and AEROTASK_STORAGE_URL."
    ),
]
_GB = 1e9


@dataclass(frozen=True, slots=True)
class _BackupPlace:
    """An installation's database, storage and secret key."""

    database_url: str
    storage: Path
    secret_key: str


def backup(
    target: Annotated[
        Path,
        typer.Argument(
            help="A folder, which may hold an earlier backup, or a new file whose name ends in .tar."
        ),
    ],
    *,
    data: _Data = None,
) -> None:
    """Back up the database, the stored files and the secret key, while everything runs; an interrupted run is continued."""
    from aerotask.services.storage.backup_target import open_target  # noqa: PLC0415  only for these commands

    with (
        _installation(data) as place,
        open_target(target) as opened,
        _progress("Copying files") as on_progress,
    ):
        manifest = asyncio.run(_back_up(place, opened, on_progress))
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
    data: _Data = None,
) -> None:
    """Restore a backup into an empty database and an empty storage; an interrupted run is continued."""
    from aerotask.services.storage.backup_files import SECRET_KEY  # noqa: PLC0415  as above
    from aerotask.services.storage.backup_source import open_source  # noqa: PLC0415

    with open_source(source) as opened, _empty_installation(data) as place:
        with _progress("Copying files") as on_progress:
            asyncio.run(_restore(place, opened, on_progress))
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
def _installation(data: Path | None) -> Iterator[_BackupPlace]:
    """The installation of the data folder, whose Postgres is started if its stack is stopped, or of the settings."""
    if data is None:
        yield _named_by_settings()
        return
    from aerotask.stack.embedded_database import embedded_database  # noqa: PLC0415  as above

    with embedded_database(data) as url:
        yield _in_folder(data, url)


@contextmanager
def _empty_installation(data: Path | None) -> Iterator[_BackupPlace]:
    """The data folder of a new stack, with its Postgres running, or the installation of the settings."""
    if data is None:
        yield _named_by_settings()
        return
    from aerotask.stack.folder import OwnedFolder  # noqa: PLC0415  as above
    from aerotask.stack.servers import running_postgres  # noqa: PLC0415

    with OwnedFolder(data) as folder, running_postgres(folder) as postgres:
        yield _in_folder(data, postgres.url)


def _named_by_settings() -> _BackupPlace:
    settings = load_settings()
    return _BackupPlace(
        settings.database_url.get_secret_value(),
        settings.storage_folder,
        settings.secret_key.get_secret_value(),
    )


def _in_folder(data: Path, url: str) -> _BackupPlace:
    key = data / "secret.key"
    return _BackupPlace(
        url, data.absolute() / "storage", key.read_text(encoding="ascii") if key.is_file() else ""
    )


@contextmanager
def _progress(description: str) -> Iterator[OnProgress]:
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as shown:
        bar = shown.add_task(description, total=None)
        yield lambda done, total: shown.update(bar, completed=done, total=total)


async def _back_up(place: _BackupPlace, target: BackupTarget, on_progress: OnProgress) -> Manifest:
    from aerotask.stack.postgres import programs_folder  # noqa: PLC0415  as above
    from aerotask.wiring import open_backup_service  # noqa: PLC0415

    opening = open_backup_service(place.database_url, place.storage, place.secret_key, programs_folder())
    async with opening as service:
        return await service.back_up(target, on_progress)


async def _restore(place: _BackupPlace, source: BackupSource, on_progress: OnProgress) -> None:
    from aerotask.stack.postgres import programs_folder  # noqa: PLC0415  as above
    from aerotask.wiring import open_restore_service  # noqa: PLC0415

    async with open_restore_service(place.database_url, place.storage, programs_folder()) as service:
        await service.restore(source, on_progress)

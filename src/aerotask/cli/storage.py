"""Commands for the storage: `aerotask storage …`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from aerotask.cli.console import InstallationData, err, installation_settings, out
from aerotask.config import Settings
from aerotask.services.storage.orphans import CONFIRMATION, SweptOrphans

if TYPE_CHECKING:
    from aerotask.services.storage.storage_check import CheckEvent

group = typer.Typer(help="Check and maintain the stored files.", no_args_is_help=True)

PROGRESS_S = 1.0
_GB = 1e9


@group.command()
def verify(
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Compare the hashes too: reads every file.")] = False,
    repair_from: Annotated[
        Path | None,
        typer.Option(
            help="A copy of the storage folder, from which damaged files are replaced.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of where the last check was interrupted.")
    ] = False,
    data: InstallationData = None,
) -> None:
    """Compare every stored file with what the database says of it; exits with 1 if damaged files remain."""
    with installation_settings(data) as settings:
        remaining = asyncio.run(_verify(settings, deep=deep, repair_from=repair_from, restart=restart))
    if remaining:
        raise typer.Exit(1)


async def _verify(settings: Settings, *, deep: bool, repair_from: Path | None, restart: bool) -> int:
    from aerotask.services.storage.storage_check import StorageVerifier  # noqa: PLC0415  as in `migrate`
    from aerotask.store.storage import blob_references, damaged_blobs  # noqa: PLC0415
    from aerotask.wiring import open_platform  # noqa: PLC0415

    async with open_platform(settings, application="aerotask storage") as platform:
        async with platform.db.read() as connection:
            total = await blob_references.count(connection)
        verifier = StorageVerifier(
            platform.db, platform.blobs, _reporter(total), deep=deep, repair_from=repair_from
        )
        done = await verifier.run(restart=restart)
        async with platform.db.read() as connection:
            remaining = await damaged_blobs.count(connection)
    compared = "lengths and hashes" if deep else "lengths"
    out.print(
        f"Compared the {compared} of {done.blobs:,} files, {done.size_bytes / _GB:,.1f} GB: "
        f"{remaining:,} damaged {'file remains' if remaining == 1 else 'files remain'}."
    )
    return remaining


def _reporter(total: int) -> Callable[[CheckEvent], None]:
    """Prints damaged files as they are found, and the progress once a second."""
    from aerotask.store.storage.storage_checks import CheckProgress  # noqa: PLC0415

    printed_at = 0.0

    def report(event: CheckEvent) -> None:
        nonlocal printed_at
        if not isinstance(event, CheckProgress):
            what = "[green]repaired[/green]" if event.repaired else "[red]damaged[/red]"
            named = ", ".join(event.owners) or "an input of a task"
            out.print(f"{what}: {escape(named)}: {event.reason} (blob {event.blob_key})", soft_wrap=True)
        elif event.started_at is not None and not printed_at:
            began = event.started_at.astimezone().strftime("%Y-%m-%d %H:%M")
            err.print(f"Resuming the check of {began} after {event.blobs:,} files; --restart begins anew.")
            printed_at = time.monotonic()
        elif time.monotonic() - printed_at >= PROGRESS_S:
            err.print(f"{event.blobs:,} of about {total:,} files, {event.size_bytes / _GB:,.1f} GB")
            printed_at = time.monotonic()

    return report


@group.command()
def sweep(
    *,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Remove them even if they are more than a tenth of all files.")
    ] = False,
    data: InstallationData = None,
) -> None:
    """Remove the stored files that the database hasn't named for the grace time, as the workers do."""
    with installation_settings(data) as settings:
        swept = asyncio.run(_sweep(settings, confirmed=confirm))
    if swept.held:
        err.print(f"[red]{swept.held} files would go, which is more than a tenth. {CONFIRMATION}[/red]")
        raise typer.Exit(1)
    out.print(f"Removed {swept.removed} files.")


async def _sweep(settings: Settings, *, confirmed: bool) -> SweptOrphans:
    from aerotask.wiring import open_platform  # noqa: PLC0415

    async with open_platform(settings, application="aerotask storage") as platform:
        return await platform.maintenance.sweep_orphans(confirmed=confirmed)

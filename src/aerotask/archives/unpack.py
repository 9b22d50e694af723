"""The run of archive-extract: from an archive to declared entries."""

from __future__ import annotations

import os

from aerotask.archives.extraction import Extraction, Order, extract
from aerotask.archives.promise import Promise
from aerotask.domain.errors import TaskFailed
from aerotask.domain.paths import shown
from aerotask.sdk.changes import Existing
from aerotask.sdk.context import RunContext

KEPT_FREE = 0.01
"""This part of the disk stays free, for everybody else's work."""
_MB = 1_000_000
_NAMED_IN_LOG = 10


def unpack(ctx: RunContext, *, source_path: str, dest_path: str, overwrite: bool) -> None:
    """Extract the archive and declare every file and folder that came out of it.

    Raises:
        InvalidInput: the archive can't be read, is hostile or over a limit.
        TaskFailed: the disk has no room for what it announces (`disk-full`).
    """
    ctx.progress(0, "reading the archive")
    there = {entry.path: entry.is_folder for entry in ctx.snapshot.entries()}
    skipped: list[str] = []

    def is_wanted(path: str) -> bool:
        wanted = overwrite or there.get(path, True)
        if not wanted:
            skipped.append(path)
        return wanted

    order = Order(
        archive=ctx.input(source_path),
        path=source_path,
        dest=dest_path,
        into=ctx.workdir / "extracted",
        limits=ctx.limits,
        is_wanted=is_wanted,
        on_promise=lambda promise: _make_sure_of_room(ctx, promise),
        on_progress=lambda fraction: ctx.progress(0.95 * fraction, "extracting"),
        threads=ctx.threads,
    )
    found = extract(order)
    _tell(ctx, found, skipped, source_path)
    ctx.progress(0.95, "declaring")
    for folder in ({dest_path} - {""}) | set(found.folders):
        ctx.put_folder(at=folder)
    for file in found.files:
        ctx.put_entry(file.file, at=file.path, existing=Existing.REPLACE if overwrite else Existing.KEEP)
    ctx.progress(1, "extracted")
    ctx.result(
        {
            "extracted": len(found.files),
            "skipped": len(skipped),
            "bytes": sum(file.size_bytes for file in found.files),
            "format": found.format,
        }
    )


def _make_sure_of_room(ctx: RunContext, promise: Promise) -> None:
    """Look before writing; what other runs take meanwhile still shows as a full disk."""
    ctx.log(f"It announces {promise.files} files to extract, {_mb(promise.size_bytes)}.")
    disk = os.statvfs(ctx.workdir)
    free = disk.f_bavail * disk.f_frsize - int(KEPT_FREE * disk.f_blocks * disk.f_frsize)
    if promise.size_bytes > free:
        raise TaskFailed(
            f"The archive needs {_mb(promise.size_bytes)}, and the storage has {_mb(max(free, 0))} to spare; free "
            "space, then retry.",
            code="disk-full",
        )


def _tell(ctx: RunContext, found: Extraction, skipped: list[str], source_path: str) -> None:
    ctx.log(f"{shown(source_path)} is {found.format}: {len(found.files)} files extracted.")
    if skipped:
        named = ", ".join(shown(path) for path in skipped[:_NAMED_IN_LOG])
        more = f" and {len(skipped) - _NAMED_IN_LOG} more" if len(skipped) > _NAMED_IN_LOG else ""
        ctx.log(f"{len(skipped)} files are there already and stay: {named}{more}.")


def _mb(count: int) -> str:
    return f"{count / _MB:.1f} MB"

"""The run of archive-extract: from an archive to declared entries."""

from __future__ import annotations

from collections.abc import Collection

from aerotask.archives.extract import Extraction, ExtractRequest, extract
from aerotask.archives.promise import AnnouncedTotals
from aerotask.archives.space_budget import SpaceBudget
from aerotask.domain.paths import shown
from aerotask.sdk.changes import Existing
from aerotask.sdk.context import RunContext

_MB = 1_000_000
_NAMED_IN_LOG = 10


def unpack(
    ctx: RunContext, *, source_path: str, dest_path: str, overwrite: bool, delete_archive: bool
) -> None:
    """Extract the archive and declare every file and folder that came out of it.

    Raises:
        InvalidInput: the archive can't be read, is hostile or over a limit.
        TaskFailed: the disk has no room for it (`disk-full`), or the storage limits don't allow it
            (`storage-quota-exceeded`).
    """
    ctx.progress(0, "reading the archive")
    there = {entry.path: entry for entry in ctx.snapshot.entries() if not entry.is_folder}
    archive = ctx.input(source_path)
    removed_bytes = archive.stat().st_size if delete_archive else 0
    room = SpaceBudget(
        ctx.workdir,
        ctx.limits.storage_left_bytes,
        removed_bytes + (sum(entry.size_bytes for entry in there.values()) if overwrite else 0),
    )
    skipped: list[str] = []
    replaced_bytes = 0

    def is_wanted(path: str) -> bool:
        nonlocal replaced_bytes
        if path in there and not overwrite:
            skipped.append(path)
            return False
        replaced_bytes += there[path].size_bytes if path in there else 0
        return True

    def hear_promise(promise: AnnouncedTotals) -> None:
        if promise.files is not None:
            ctx.log(f"It announces {promise.files} files to extract, {_mb(promise.size_bytes)}.")
            room.expect_growth(promise.size_bytes - replaced_bytes - removed_bytes)
        room.expect_on_disk(promise.size_bytes)

    order = ExtractRequest(
        archive=archive,
        path=source_path,
        dest=dest_path,
        into=ctx.workdir / "extracted",
        room=room,
        limits=ctx.limits,
        is_wanted=is_wanted,
        on_promise=hear_promise,
        on_progress=lambda fraction: ctx.progress(0.95 * fraction, "extracting"),
        threads=ctx.threads,
    )
    found = extract(order)
    _tell(ctx, found, skipped, source_path)
    ctx.progress(0.95, "declaring")
    _declare(ctx, found, dest_path, Existing.REPLACE if overwrite else Existing.KEEP)
    if delete_archive:
        _remove_archive(ctx, source_path, {*skipped, *(file.path for file in found.files)})
    ctx.progress(1, "extracted")
    ctx.result(
        {
            "extracted": len(found.files),
            "skipped": len(skipped),
            "bytes": sum(file.size_bytes for file in found.files),
            "format": found.format,
        }
    )


def _declare(ctx: RunContext, found: Extraction, dest_path: str, existing: Existing) -> None:
    for folder in ({dest_path} - {""}) | set(found.folders):
        ctx.put_folder(at=folder)
    for file in found.files:
        ctx.put_entry(file.file, at=file.path, existing=existing)


def _remove_archive(ctx: RunContext, source_path: str, members: Collection[str]) -> None:
    if source_path in members:
        # Put there, it is what came out; left there, it is all that has the member.
        ctx.log(f"Warning: {shown(source_path)} stays, since the archive holds a file of that name itself.")
    else:
        ctx.remove_entry(source_path)


def _tell(ctx: RunContext, found: Extraction, skipped: list[str], source_path: str) -> None:
    ctx.log(f"{shown(source_path)} is {found.format}: {len(found.files)} files extracted.")
    if skipped:
        named = ", ".join(shown(path) for path in skipped[:_NAMED_IN_LOG])
        more = f" and {len(skipped) - _NAMED_IN_LOG} more" if len(skipped) > _NAMED_IN_LOG else ""
        ctx.log(f"{len(skipped)} files are there already and stay: {named}{more}.")


def _mb(count: int) -> str:
    return f"{count / _MB:.1f} MB"

"""Run of the tool `archive-extract`: from an archive to declared entries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from aerotask.archives.extract import Extraction, extract
from aerotask.archives.extract_request import ExtractRequest
from aerotask.archives.member_filter import AnnouncedTotals
from aerotask.archives.name_encoding import AUTO, NameEncoding
from aerotask.archives.space_budget import SpaceBudget
from aerotask.domain.paths import shown
from aerotask.sdk.changes import Existing, plausible_mtime
from aerotask.sdk.context import RunContext

_MB = 1_000_000
_MAX_LOGGED_PATHS = 10


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """Options of a run; see `ArchiveExtractParams`."""

    source_path: str
    dest_path: str = ""
    overwrite: bool = False
    delete_archive: bool = False
    name_encoding: NameEncoding = AUTO
    keep_litter: bool = False


def run_extract(ctx: RunContext, options: ExtractOptions) -> None:
    """Extract the archive and declare every extracted file and folder, with the times that the archive has.

    Raises:
        InvalidInput: the archive can't be read, is hostile or over a limit.
        TaskFailed: the disk is full (`disk-full`), or the storage limits would be exceeded
            (`storage-quota-exceeded`).
    """
    ctx.progress(0, "reading the archive")
    source_path, dest_path, overwrite = options.source_path, options.dest_path, options.overwrite
    existing = {entry.path: entry for entry in ctx.snapshot.entries() if not entry.is_folder}
    archive = ctx.input(source_path)
    removed_bytes = archive.stat().st_size if options.delete_archive else 0
    budget = SpaceBudget(
        ctx.workdir,
        ctx.limits.storage_left_bytes,
        removed_bytes + (sum(entry.size_bytes for entry in existing.values()) if overwrite else 0),
    )
    skipped: list[str] = []
    replaced_bytes = 0

    def is_wanted(path: str) -> bool:
        nonlocal replaced_bytes
        if path in existing and not overwrite:
            skipped.append(path)
            return False
        replaced_bytes += existing[path].size_bytes if path in existing else 0
        return True

    def on_announced(totals: AnnouncedTotals) -> None:
        if totals.files is not None:
            ctx.log(f"The archive announces {totals.files} files to extract, {_mb(totals.size_bytes)}.")
            budget.check_growth(totals.size_bytes - replaced_bytes - removed_bytes)
        budget.check_disk(totals.size_bytes)

    extraction = extract(
        ExtractRequest(
            archive=archive,
            path=source_path,
            dest=dest_path,
            target_dir=ctx.workdir / "extracted",
            budget=budget,
            limits=ctx.limits,
            is_wanted=is_wanted,
            on_announced=on_announced,
            on_progress=lambda fraction: ctx.progress(0.95 * fraction, "extracting"),
            threads=ctx.threads,
            name_encoding=options.name_encoding,
            keep_litter=options.keep_litter,
        )
    )
    _log_summary(ctx, extraction, skipped, source_path)
    ctx.progress(0.95, "declaring")
    _declare(ctx, extraction, dest_path, Existing.REPLACE if overwrite else Existing.KEEP)
    if options.delete_archive:
        _remove_archive(ctx, source_path, {*skipped, *(file.path for file in extraction.files)})
    ctx.progress(1, "extracted")
    ctx.result(
        {
            "extracted": len(extraction.files),
            "skipped": len(skipped),
            "ignored": extraction.ignored,
            "bytes": sum(file.size_bytes for file in extraction.files),
            "format": extraction.format,
            "warnings": extraction.warnings,
        }
    )


def _declare(ctx: RunContext, extraction: Extraction, dest_path: str, existing: Existing) -> None:
    if dest_path and dest_path not in extraction.folders:
        ctx.put_folder(at=dest_path)
    for folder, mtime in extraction.folders.items():
        ctx.put_folder(at=folder, mtime=plausible_mtime(mtime))
    for file in extraction.files:
        ctx.put_entry(file.file, at=file.path, existing=existing, mtime=plausible_mtime(file.mtime))


def _remove_archive(ctx: RunContext, source_path: str, members: Collection[str]) -> None:
    if source_path in members:
        # Removing it would delete the extracted file, or the only copy of a member that was skipped.
        ctx.log(f"Warning: {shown(source_path)} is kept, since the archive contains a file of the same path.")
    else:
        ctx.remove_entry(source_path)


def _log_summary(ctx: RunContext, extraction: Extraction, skipped: list[str], source_path: str) -> None:
    ctx.log(f"{shown(source_path)} is {extraction.format}: {len(extraction.files)} files extracted.")
    if skipped:
        listed = ", ".join(shown(path) for path in skipped[:_MAX_LOGGED_PATHS])
        more = f" and {len(skipped) - _MAX_LOGGED_PATHS} more" if len(skipped) > _MAX_LOGGED_PATHS else ""
        ctx.log(f"{len(skipped)} files already exist and were skipped: {listed}{more}.")
    if extraction.ignored:
        ctx.log(f"{extraction.ignored} files that macOS or Windows has added for itself were left out.")
    for warning in extraction.warnings:
        ctx.log(f"Warning: {warning}")


def _mb(count: int) -> str:
    return f"{count / _MB:.1f} MB"

"""Run of the tool `bulk-download`: inputs and their folders as one ZIP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from aerotask.archives.ddb_index import INDEX_PATH, write_index
from aerotask.archives.member_filter import case_folded
from aerotask.archives.zip.deflate import MAX_RATIO, is_compressed
from aerotask.archives.zip.writer import DamagedSource, ZipSource, write_zip
from aerotask.domain.paths import depth, parents, shown
from aerotask.sdk.context import RunContext
from aerotask.sdk.dataset import EntryView
from aerotask.sdk.limits import Limits

MEDIA_TYPE = "application/zip"
_INDEX_SHARE = 0.02
_MB = 1_000_000


def run_download(ctx: RunContext, *, name: str, with_index: bool) -> None:
    """Write every input, and the snapshot's folders, to a ZIP and publish it as `name`.

    Raises:
        TaskFailed: an input is damaged (`content-damaged`).
    """
    ctx.progress(0, "listing")
    sources = list(_sources(ctx))
    files = [source for source in sources if source.file is not None]
    total_bytes = sum(source.size_bytes for source in files)
    ctx.log(f"Adding {len(files)} files and {len(sources) - len(files)} folders, {_mb(total_bytes)}.")
    warnings = [*_collisions(sources), *_beyond_limits(sources, ctx.limits)]
    for warning in warnings:
        ctx.log(f"Warning: {warning}")
    if with_index:
        ctx.progress(0, "index")
        sources += _index(ctx)
        ctx.log(f"Added the index as {INDEX_PATH}.")
    stored = sum(is_compressed(source.path) for source in files)
    ctx.log(f"{stored} of the files have compressed formats and are stored without deflating them.")
    target = ctx.workdir / "archive.zip"
    ctx.progress(_INDEX_SHARE, "packing")
    try:
        written = write_zip(
            target,
            sources,
            threads=ctx.threads,
            max_ratio=min(MAX_RATIO, ctx.limits.extraction_ratio // 2),
            on_progress=lambda done: ctx.progress(
                _INDEX_SHARE + (1 - _INDEX_SHARE) * min(done / max(total_bytes, 1), 1), "packing"
            ),
        )
    except DamagedSource as damaged:
        ctx.check_content(damaged.path, damaged.sha256)
        raise
    ctx.publish(target, name=name, media_type=MEDIA_TYPE, sha256=written.sha256)
    ctx.log(f"Wrote {shown(name)}: {_mb(written.size_bytes)}, SHA-256 {written.sha256}.")
    ctx.result(
        {
            "files": len(files),
            "folders": len(sources) - len(files) - 2 * with_index,
            "bytes": total_bytes,
            "archiveBytes": written.size_bytes,
            "sha256": written.sha256,
            "warnings": warnings,
        }
    )


def _entries(ctx: RunContext) -> Iterator[EntryView]:
    """Entries to add: the snapshot's folders, and the files that are inputs of the run."""
    return (entry for entry in ctx.snapshot.entries() if entry.is_folder or entry.path in ctx.inputs)


def _sources(ctx: RunContext) -> Iterator[ZipSource]:
    for entry in _entries(ctx):
        if entry.is_folder:
            yield ZipSource(entry.path, entry.mtime)
        else:
            file = ctx.input(entry.path)
            yield ZipSource(entry.path, entry.mtime, file, file.stat().st_size, entry.sha256)


def _index(ctx: RunContext) -> list[ZipSource]:
    now = int(time.time())
    file: Path = ctx.workdir / "dbase.sqlite"
    write_index(file, _entries(ctx), slug=ctx.snapshot.slug, exported_at=now)
    return [
        *(ZipSource(folder, now) for folder in parents(INDEX_PATH)),
        ZipSource(INDEX_PATH, now, file, file.stat().st_size),
    ]


def _collisions(sources: list[ZipSource]) -> list[str]:
    """Warnings for names that collide on case-insensitive file systems, where such a ZIP can't be extracted."""
    seen: dict[str, str] = {}
    warnings: list[str] = []
    for source in sources:
        other = seen.setdefault(case_folded(source.path), source.path)
        if other != source.path:
            warnings.append(f"{shown(source.path)} and {shown(other)} are the same name on some systems.")
    return warnings[:20]


def _beyond_limits(sources: list[ZipSource], limits: Limits) -> Iterator[str]:
    """Warnings for a ZIP that exceeds the limits of `archive-extract`."""
    consequence = "extraction will reject this ZIP"
    deep = [source.path for source in sources if depth(source.path) > limits.archive_depth]
    if deep:
        first = f"{shown(deep[0])} is one of {len(deep)}"
        yield f"Paths more than {limits.archive_depth} folders deep ({first}): {consequence}."
    if len(sources) > limits.extracted_entries:
        yield f"More than {limits.extracted_entries} members: {consequence}."
    size_bytes = sum(source.size_bytes for source in sources)
    if size_bytes > limits.extracted_bytes:
        yield f"More than {limits.extracted_bytes} bytes: {consequence}."


def _mb(count: int) -> str:
    return f"{count / _MB:.1f} MB"

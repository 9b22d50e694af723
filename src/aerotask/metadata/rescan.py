"""Run of rescan-index: extracts the metadata of the inputs again and declares it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aerotask.domain.errors import TaskFailed
from aerotask.domain.paths import shown
from aerotask.metadata.extractor_pool import ExtractedMetadata, extracting
from aerotask.metadata.file_types import EntryType, owner_paths_of
from aerotask.sdk import DescribeEntry, RunContext

MAX_LISTED = 1000
"""Maximum number of failed entries in the result; their true number is `total - ok`."""
MAX_LOGGED = 100
# Added to the size of each file, so that many small files advance the progress too.
_FILE_WEIGHT_BYTES = 256 * 1024


@dataclass(slots=True)
class _Tally:
    ok: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    by_type: Counter[str] = field(default_factory=Counter)


def rescan(ctx: RunContext, *, types: Collection[EntryType], stop_on_error: bool) -> None:
    """Extract the metadata of every input of the given types, in separate processes.

    Raises:
        TaskFailed: with `stop_on_error`, an entry can't be read (`unreadable-entry`) or is damaged (`content-damaged`).
    """
    files = _to_describe(ctx.inputs, types)
    ctx.log(f"Reading {len(files):,} entries again, {ctx.threads} at a time.")
    weights = {path: file.stat().st_size + _FILE_WEIGHT_BYTES for path, file in files.items()}
    whole, done = max(sum(weights.values()), 1), 0
    tally = _Tally()
    with extracting(files, processes=ctx.threads) as results:
        for found in results:
            _record(ctx, found, tally, stop_on_error=stop_on_error)
            done += weights[found.path]
            ctx.progress(done / whole, "reading")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.by_type.items()))
    ctx.log(f"{tally.ok:,} of {len(files):,} entries could be read{f': {kinds}' if kinds else ''}.")
    ctx.result(
        {
            "total": len(files),
            "ok": tally.ok,
            "failed": sorted(tally.failed, key=lambda failure: failure["path"])[:MAX_LISTED],
        }
    )


def _record(ctx: RunContext, found: ExtractedMetadata, tally: _Tally, *, stop_on_error: bool) -> None:
    damage = _damage(ctx, found)
    error = found.description.error if damage is None else damage.message
    if damage is not None and stop_on_error:
        raise damage
    if error is None:
        tally.ok += 1
        tally.by_type[found.description.type] += 1
    elif stop_on_error:
        raise TaskFailed(
            f"{shown(found.path)} can't be read, so nothing was changed: {error}", code="unreadable-entry"
        )
    else:
        tally.failed.append({"path": found.path, "error": error})
        if len(tally.failed) <= MAX_LOGGED:
            ctx.log(f"{shown(found.path)}: {error}")
    if damage is not None:
        return  # what is known of the intact content stays
    ctx.describe_entry(
        DescribeEntry(
            at=found.path,
            sha256=found.sha256,
            type=found.description.type,
            properties=found.description.properties,
            point_geom=found.description.point,
            polygon_geom=found.description.polygon,
        )
    )


def _damage(ctx: RunContext, found: ExtractedMetadata) -> TaskFailed | None:
    try:
        ctx.check_content(found.path, found.sha256)
    except TaskFailed as error:
        return error
    return None


def _to_describe(inputs: Mapping[str, Path], types: Collection[EntryType]) -> Mapping[str, Path]:
    """The inputs without the side files that were only added because their shapefiles or rasters need them."""
    if EntryType.GENERIC in types:
        return inputs
    return {path: file for path, file in inputs.items() if not inputs.keys() & {*owner_paths_of(path)}}

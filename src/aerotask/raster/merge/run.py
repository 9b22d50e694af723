"""Run of merge-multispectral: reads, writes and stores the result, with log lines and progress."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rasterio.enums import MaskFlags

from aerotask.domain.paths import shown
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.merge.plan import MergePlan, SourceBand
from aerotask.raster.merge.write import MergeWriteOptions, merge_bands
from aerotask.raster.progress import StageProgress
from aerotask.sdk import Existing, RunContext

# Each stage's part of the whole, roughly as measured.
_SHARES: Mapping[str, tuple[float, float]] = {
    "pixels": (0.01, 0.68),
    "overviews": (0.68, 0.93),
    "cog": (0.93, 0.99),
}
_PHASES: Mapping[str, str] = {
    "pixels": "merging bands",
    "overviews": "writing overviews",
    "cog": "arranging the COG",
}


def read_source_band(path: str, file: Path) -> SourceBand:
    """The file of the entry at `path`, described by its header, without camera metadata.

    Raises:
        InvalidInput: it is no readable raster.
    """
    with open_raster(file) as opened:
        has_mask = opened.count == 1 and MaskFlags.per_dataset in opened.mask_flag_enums[0]
        return SourceBand(path, file, read_profile(opened), has_mask=has_mask)


def run_merge(
    plan: MergePlan,
    exif: Mapping[str, Any],
    output_path: str,
    ctx: RunContext,
    *,
    existing: Existing,
) -> None:
    """Execute the plan and put the result at `output_path`, with position, time and camera from `exif`.

    Raises:
        InvalidInput: one of the files is damaged.
        OSError: the disk is full or fails.
    """
    _log_plan(plan, ctx)
    target = ctx.workdir / "merged.tif"
    target.unlink(missing_ok=True)
    progress = StageProgress(ctx, _SHARES, _PHASES)
    writing = MergeWriteOptions(threads=ctx.threads, exif=exif)
    size_bytes = merge_bands(plan, target, writing=writing, on_stage=progress.report)
    ctx.put_entry(target, at=output_path, existing=existing)
    rows, cols = plan.shape_yx
    ctx.log(
        f"Wrote {shown(output_path)}: {cols} × {rows} pixels, {len(plan.bands)} bands, {size_bytes / 1e6:,.1f} MB."
    )
    ctx.result(_result(plan, output_path, size_bytes, has_position=bool(exif.get("gps"))))
    ctx.progress(1.0, "done")


def _log_plan(plan: MergePlan, ctx: RunContext) -> None:
    first = plan.first
    ctx.log(
        f"Merging {len(plan.sources)} files of {first.width} × {first.height} pixels of {first.bands[0].dtype}, "
        f"{(first.crs or 'no CRS')[:60]}."
    )
    for number, (source, band) in enumerate(zip(plan.sources, plan.bands, strict=True)):
        right, down = plan.shift_of(number)
        moved = f", {right:+d} px to the right and {down:+d} px down of the first" if plan.centre_kind else ""
        ctx.log(f"Band {number + 1} is {shown(band.name)} from {shown(source.path)}{moved}.")
    if plan.centre_kind:
        ctx.log(
            f"Shifted by the cameras' {plan.centre_kind}s; {plan.shape_yx[1]} × {plan.shape_yx[0]} pixels are common to "
            "all bands. This aligns distant objects; close objects keep the parallax between the lenses."
        )
    for line in plan.warnings:
        ctx.log(f"Warning: {line}")


def _result(plan: MergePlan, output_path: str, size_bytes: int, *, has_position: bool) -> dict[str, Any]:
    rows, cols = plan.shape_yx
    return {
        "path": output_path,
        "width": cols,
        "height": rows,
        "type": plan.first.bands[0].dtype,
        "crs": plan.first.crs,
        "bands": [
            {"name": band.name, "path": source.path, "shift": list(plan.shift_of(number))}
            for number, (source, band) in enumerate(zip(plan.sources, plan.bands, strict=True))
        ],
        "shiftedBy": plan.centre_kind,
        "position": has_position,
        "sizeBytes": size_bytes,
        "warnings": list(plan.warnings),
    }

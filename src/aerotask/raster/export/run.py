"""Run of raster-export: reads, plans, writes and publishes, with log lines and progress."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from aerotask.domain.paths import shown
from aerotask.raster.export.options import ExportOptions
from aerotask.raster.export.physical_values import warn_of_range
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.export.stretch import percentile_stretch
from aerotask.raster.export.write import ExportResult, ExportWriteOptions, export_image
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.expression.syntax import Name
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile
from aerotask.raster.profile import RasterProfile
from aerotask.raster.progress import StageProgress
from aerotask.sdk import RunContext

MEDIA_TYPE = "image/tiff"
EMPTY = "No pixel has a value: the result is empty."
# Each stage's part of the whole, roughly as measured; only a COG has the last.
_SHARES = {"range": (0, 0.05), "pixels": (0.05, 0.67), "overviews": (0.67, 0.93), "cog": (0.93, 0.99)}
_PHASES = {
    "range": "finding the range of values",
    "pixels": "computing and writing",
    "overviews": "writing overviews",
    "cog": "arranging the COG",
}


def run_export(path: str, options: ExportOptions, file_name: str, ctx: RunContext) -> None:
    """Export the entry at `path` and publish the result as `file_name`.

    Raises:
        InvalidInput: the file lacks what the options need, or is no readable raster.
        OSError: the disk is full or fails.
    """
    source = _read_source(path, ctx)
    plan = make_plan(options, source.profile)
    _log_plan(plan, ctx)
    progress = StageProgress(ctx, _SHARES, _PHASES)
    plan = _check_reflectances(plan, source, ctx)
    plan = _settle_ranges(plan, source, progress, ctx)
    target = ctx.workdir / "export.tif"
    result = _write(source, plan, target, progress, ctx)
    if not result.valid_px:
        ctx.log(f"Warning: {EMPTY}")
        plan = replace(plan, warnings=(*plan.warnings, EMPTY))
    ctx.publish(target, name=file_name, media_type=MEDIA_TYPE)
    ctx.log(_summary(result, source.profile, file_name))
    ctx.result(_result(plan, source.profile, result))
    ctx.progress(1.0, "done")


def _read_source(path: str, ctx: RunContext) -> SourceFile:
    file = ctx.input(path)
    with open_raster(file) as opened:
        profile = read_profile(opened)
    nodata = ", ".join(f"{value:g}" for value in {band.nodata for band in profile.bands} if value is not None)
    ctx.log(
        f"Reading {shown(path)}: {profile.width} × {profile.height} pixels, {profile.count} band(s) of "
        f"{profile.bands[0].dtype}, {(profile.crs or 'no CRS')[:60]}, "
        f"{f'nodata {nodata}' if nodata else 'no nodata value'}"
        f"{', with alpha' if profile.alpha_band else ''}."
    )
    return SourceFile(file, profile)


def _log_plan(plan: ExportPlan, ctx: RunContext) -> None:
    if plan.formula is None or isinstance(plan.formula.expression, Name):
        ctx.log(f"Taking {plan.title}.")
    elif plan.formula.text == plan.title:
        ctx.log(f"Computing {plan.title}.")
    else:
        ctx.log(f"Computing {plan.title} = {plan.formula.text}.")
    for line in plan.reasons:
        ctx.log(line)
    for line in plan.warnings:
        ctx.log(f"Warning: {line}")


def _check_reflectances(plan: ExportPlan, source: SourceFile, ctx: RunContext) -> ExportPlan:
    """The plan with a warning if the values can't be the reflectances that its formula needs."""
    of_numbers = all("int" in band.dtype for band in source.profile.bands) and not plan.scalings
    if plan.formula is None or not plan.formula.needs_reflectances or of_numbers:
        return plan  # nothing to check, or the plan itself warns
    bands = replace(plan, formula=None, names={}, channels=plan.source_bands)
    stretch = percentile_stretch(source, bands, threads=ctx.threads, on_progress=lambda _share: None)
    warning = warn_of_range(plan.title, plan.source_bands, stretch.ranges)
    if warning is None:
        return plan
    ctx.log(f"Warning: {warning}")
    return replace(plan, warnings=(*plan.warnings, warning))


def _settle_ranges(
    plan: ExportPlan, source: SourceFile, progress: StageProgress, ctx: RunContext
) -> ExportPlan:
    """The plan with its ranges set, from the pixels where neither options nor formula have them."""
    if plan.gives_values:
        ctx.log("Writing the values as Float32, with NaN as nodata.")
        return plan
    if plan.keeps_colours:
        return plan
    origin = {"rescale": "as given", "formula": "the formula's own range"}.get(plan.range_source)
    if plan.ranges is None:
        stretch = percentile_stretch(
            source, plan, threads=ctx.threads, on_progress=progress.reporter("range")
        )
        plan = replace(plan, ranges=stretch.ranges)
        origin = f"2nd to 98th percentile, from {stretch.sample}"
        if not stretch.found_values:
            origin = "no pixel with a value was found"
    colours = f"Colouring with '{plan.colormap}'" if plan.formula else "Showing red, green and blue"
    ranges = "; ".join(f"{each.low:g} to {each.high:g}" for each in plan.ranges or ())
    ctx.log(f"{colours} from {ranges} ({origin}).")
    return plan


def _write(
    source: SourceFile, plan: ExportPlan, target: Path, progress: StageProgress, ctx: RunContext
) -> ExportResult:
    """Write under a temporary name and rename, so that `target` is never half a file."""
    partial = target.with_suffix(".partial.tif")
    partial.unlink(missing_ok=True)
    writing = ExportWriteOptions(threads=ctx.threads)
    result = export_image(source, plan, partial, writing=writing, on_progress=progress.report)
    partial.replace(target)
    return result


def _summary(result: ExportResult, profile: RasterProfile, file_name: str) -> str:
    share = 100 * result.valid_px / (profile.width * profile.height)
    return f"Wrote {shown(file_name)}: {result.size_bytes / 1e6:,.1f} MB; {share:.1f} % of the pixels have a value."


def _result(plan: ExportPlan, profile: RasterProfile, result: ExportResult) -> dict[str, Any]:
    return {
        "shows": plan.title,
        "formula": plan.formula.title if plan.formula else None,
        "expression": plan.formula.text if plan.formula else None,
        "bands": dict(plan.names) if plan.formula else list(plan.channels),
        "range": None if not plan.ranges else [_pair(each) for each in plan.ranges],
        "unscaled": bool(plan.scalings),
        "rescaleSource": plan.range_source,
        "colormap": plan.colormap if plan.formula or plan.gives_values else None,
        "format": plan.format.value,
        "width": profile.width,
        "height": profile.height,
        "validPixels": result.valid_px,
        "sizeBytes": result.size_bytes,
        "warnings": list(plan.warnings),
    }


def _pair(value_range: ValueRange) -> list[float]:
    return [value_range.low, value_range.high]

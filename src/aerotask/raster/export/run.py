"""Run of raster-export: reads, plans, writes and publishes, with log lines and progress."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from aerotask.domain.paths import shown
from aerotask.raster.export.area import (
    AreaOptions,
    Box,
    CutlineEntry,
    CutlinePolygons,
    ExportArea,
    locate_box,
)
from aerotask.raster.export.cutline_geojson import left_out_warning
from aerotask.raster.export.cutline_limits import check_file_size
from aerotask.raster.export.options import ExportOptions
from aerotask.raster.export.physical_values import int16_scaling, warn_of_clipped, warn_of_range
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.export.stretch import extremes, percentile_stretch
from aerotask.raster.export.write import ExportResult, ExportWriteOptions, export_image
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.expression.syntax import Name
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile
from aerotask.raster.profile import RasterProfile
from aerotask.raster.progress import StageProgress
from aerotask.raster.windows import shape_of
from aerotask.sdk import RunContext

MEDIA_TYPE = "image/tiff"
EMPTY = "No pixel has a value: the result is empty."
CLIPPED = "The area reaches beyond the raster; only the part within it is exported."
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
    if options.area:
        plan = _locate(options.area, plan, source, ctx)
    progress = StageProgress(ctx, _SHARES, _PHASES)
    plan = _check_reflectances(plan, source, ctx)
    plan = _settle_ranges(plan, source, progress, ctx)
    target = ctx.workdir / "export.tif"
    result = _write(source, plan, target, progress, ctx)
    if not result.valid_px:
        plan = _warned(plan, EMPTY, ctx)
    if result.clipped_px and plan.number_scaling:
        plan = _warned(plan, warn_of_clipped(result.clipped_px, plan.number_scaling), ctx)
    ctx.publish(target, name=file_name, media_type=MEDIA_TYPE)
    ctx.log(_summary(plan, result, source.profile, file_name))
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


def _locate(wanted: AreaOptions, plan: ExportPlan, source: SourceFile, ctx: RunContext) -> ExportPlan:
    """The plan with the part of the raster that is exported."""
    area, warning = (
        (locate_box(wanted, source.profile), None)
        if isinstance(wanted, Box)
        else _cut(wanted, source.profile, ctx)
    )
    rows, cols = area.window
    height, width = shape_of(area.window)
    ctx.log(
        f"Exporting {width} × {height} pixels from column {cols.start} and row {rows.start} on"
        f"{', within the cutline' if area.inside else ''}."
    )
    plan = replace(plan, area=area)
    for text in (CLIPPED if area.is_clipped else None, warning):
        plan = _warned(plan, text, ctx) if text else plan
    return plan


def _cut(
    wanted: CutlineEntry | CutlinePolygons, profile: RasterProfile, ctx: RunContext
) -> tuple[ExportArea, str | None]:
    """The area within a cutline, and a warning if not all of it is polygons."""
    from aerotask.raster.export.cutline import (  # noqa: PLC0415  loads GDAL's vector drivers, which few runs need
        cutline_of,
        locate_cutline,
        read_cutline,
    )

    if isinstance(wanted, CutlineEntry):
        file = ctx.input(wanted.path)
        check_file_size(wanted.path, file.stat().st_size)
        cutline = read_cutline(file, folder=ctx.workdir)
    else:
        cutline = cutline_of(wanted)
    count = sum(len(polygons) for _, polygons in cutline.polygons)
    ctx.log(f"Cutting to {count:,} polygon(s) in {cutline.polygons[0][0][:60]}.")
    return locate_cutline(cutline, profile), left_out_warning(cutline.others) if cutline.others else None


def _warned(plan: ExportPlan, warning: str, ctx: RunContext) -> ExportPlan:
    ctx.log(f"Warning: {warning}")
    return replace(plan, warnings=(*plan.warnings, warning))


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
    return plan if warning is None else _warned(plan, warning, ctx)


def _settle_ranges(
    plan: ExportPlan, source: SourceFile, progress: StageProgress, ctx: RunContext
) -> ExportPlan:
    """The plan with its ranges set, from the pixels where neither options nor formula have them."""
    if plan.gives_values and plan.data_type == "int16":
        return _settle_numbers(plan, source, progress, ctx)
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
        of = " of the area" if plan.area else ""
        origin = f"2nd to 98th percentile{of}, from {stretch.sample}"
        if not stretch.found_values:
            origin = "no pixel with a value was found"
    colours = f"Colouring with '{plan.colormap}'" if plan.formula else "Showing red, green and blue"
    ranges = "; ".join(f"{each.low:g} to {each.high:g}" for each in plan.ranges or ())
    ctx.log(f"{colours} from {ranges} ({origin}).")
    return plan


def _settle_numbers(
    plan: ExportPlan, source: SourceFile, progress: StageProgress, ctx: RunContext
) -> ExportPlan:
    """The plan with scale and offset of its Int16 numbers, from a range or else from the extremes of the pixels."""
    origin = {"rescale": "as given", "formula": "the formula's own range"}.get(plan.range_source)
    if plan.ranges is None:
        found = extremes(source, plan, threads=ctx.threads, on_progress=progress.reporter("range"))
        plan = replace(plan, ranges=(found or ValueRange(-1, 1),))
        origin = "smallest and largest value" if found else "no pixel with a value was found"
    [value_range] = plan.ranges or ()
    scale, offset = int16_scaling(value_range)
    ctx.log(
        f"Writing the values from {value_range.low:g} to {value_range.high:g} ({origin}) as Int16: value = number × {scale:g} "
        f"{'-' if offset < 0 else '+'} {abs(offset):g}, with -32768 as nodata."
    )
    return replace(plan, number_scaling=(scale, offset))


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


def _summary(plan: ExportPlan, result: ExportResult, profile: RasterProfile, file_name: str) -> str:
    height, width = shape_of(plan.window_of(profile))
    share = 100 * result.valid_px / (width * height)
    return f"Wrote {shown(file_name)}: {result.size_bytes / 1e6:,.1f} MB; {share:.1f} % of the pixels have a value."


def _result(plan: ExportPlan, profile: RasterProfile, result: ExportResult) -> dict[str, Any]:
    rows, cols = plan.window_of(profile)
    scale, offset = plan.number_scaling or (None, None)
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
        "dataType": plan.data_type if plan.gives_values else "uint8",
        "scale": scale,
        "offset": offset,
        "left": cols.start,
        "top": rows.start,
        "width": cols.stop - cols.start,
        "height": rows.stop - rows.start,
        "validPixels": result.valid_px,
        "sizeBytes": result.size_bytes,
        "warnings": list(plan.warnings),
    }


def _pair(value_range: ValueRange) -> list[float]:
    return [value_range.low, value_range.high]

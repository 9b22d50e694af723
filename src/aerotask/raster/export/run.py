"""One export from beginning to end, told to a run's context: what was read, chosen and written, and how far it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from aerotask.domain.paths import shown
from aerotask.raster.export.options import ExportOptions
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.export.stretch import percentile_stretch
from aerotask.raster.export.write import ExportResult, ExportWriteOptions, export_image
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.expression.parser import Name
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


def run_export(path: str, request: ExportOptions, file_name: str, ctx: RunContext) -> None:
    """Export the entry at `path` as requested and publish the result under `file_name`.

    Raises:
        InvalidInput: the real file can't give what is asked for, or is no readable raster.
        OSError: the disk is full, or fails.
    """
    source = _read_source(path, ctx)
    recipe = make_plan(request, source.profile)
    _tell_recipe(recipe, ctx)
    progress = StageProgress(ctx, _SHARES, _PHASES)
    recipe = _settle_ranges(recipe, source, progress, ctx)
    target = ctx.workdir / "export.tif"
    written = _write(source, recipe, target, progress, ctx)
    if not written.valid_px:
        ctx.log(f"Warning: {EMPTY}")
        recipe = replace(recipe, warnings=(*recipe.warnings, EMPTY))
    ctx.publish(target, name=file_name, media_type=MEDIA_TYPE)
    ctx.log(_written_line(written, source.profile, file_name))
    ctx.result(_outcome(recipe, source.profile, written))
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


def _tell_recipe(recipe: ExportPlan, ctx: RunContext) -> None:
    if recipe.formula is None or isinstance(recipe.formula.expression, Name):
        ctx.log(f"Taking {recipe.title}.")
    elif recipe.formula.text == recipe.title:
        ctx.log(f"Computing {recipe.title}.")
    else:
        ctx.log(f"Computing {recipe.title} = {recipe.formula.text}.")
    for line in recipe.reasons:
        ctx.log(line)
    for line in recipe.warnings:
        ctx.log(f"Warning: {line}")


def _settle_ranges(
    recipe: ExportPlan, source: SourceFile, progress: StageProgress, ctx: RunContext
) -> ExportPlan:
    """The recipe with its ranges known, from the pixels if need be."""
    if recipe.gives_values:
        ctx.log("Writing the values as Float32, with NaN as nodata.")
        return recipe
    origin = {"rescale": "as asked for", "formula": "the formula's own range"}.get(recipe.range_source)
    if recipe.ranges is None:
        stretch = percentile_stretch(source, recipe, threads=ctx.threads, on_progress=progress.of("range"))
        recipe = replace(recipe, ranges=stretch.ranges)
        origin = f"2nd to 98th percentile, from {stretch.sample}"
        if not stretch.found_values:
            origin = "hardly any pixel has a value, if any"
    colours = f"Colouring with '{recipe.colormap}'" if recipe.formula else "Showing red, green and blue"
    ranges = "; ".join(f"{each.low:g} to {each.high:g}" for each in recipe.ranges or ())
    ctx.log(f"{colours} from {ranges} ({origin}).")
    return recipe


def _write(
    source: SourceFile, recipe: ExportPlan, target: Path, progress: StageProgress, ctx: RunContext
) -> ExportResult:
    """Write under a temporary name and rename, so that `target` is never half a file."""
    partial = target.with_suffix(".partial.tif")
    partial.unlink(missing_ok=True)
    writing = ExportWriteOptions(threads=ctx.threads)
    written = export_image(source, recipe, partial, writing=writing, on_progress=progress.tell)
    partial.replace(target)
    return written


def _written_line(written: ExportResult, profile: RasterProfile, file_name: str) -> str:
    share = 100 * written.valid_px / (profile.width * profile.height)
    return f"Wrote {shown(file_name)}: {written.size_bytes / 1e6:,.1f} MB; {share:.1f} % of the pixels have a value."


def _outcome(recipe: ExportPlan, profile: RasterProfile, written: ExportResult) -> dict[str, Any]:
    return {
        "shows": recipe.title,
        "formula": recipe.formula.title if recipe.formula else None,
        "expression": recipe.formula.text if recipe.formula else None,
        "bands": dict(recipe.names) if recipe.formula else list(recipe.channels),
        "range": None if recipe.ranges is None else [_pair(each) for each in recipe.ranges],
        "rescaleSource": recipe.range_source,
        "colormap": recipe.colormap if recipe.formula or recipe.gives_values else None,
        "format": recipe.format.value,
        "width": profile.width,
        "height": profile.height,
        "validPixels": written.valid_px,
        "sizeBytes": written.size_bytes,
        "warnings": list(recipe.warnings),
    }


def _pair(value_range: ValueRange) -> list[float]:
    return [value_range.low, value_range.high]

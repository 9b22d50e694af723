"""Run of align-raster: reads, matches, warps and stores the result, with log lines and progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aerotask.domain.errors import TaskFailed
from aerotask.domain.paths import shown
from aerotask.raster.alignment.checks import AlignInput, check_alignable, check_overlap, check_paths
from aerotask.raster.alignment.common_grid import map_grid, reproject, same_crs
from aerotask.raster.alignment.elevation import vertical_offset
from aerotask.raster.alignment.match.matching import Match, find_match
from aerotask.raster.alignment.match.quality import confidence, reasons_to_reject
from aerotask.raster.alignment.match.similarity import Mode
from aerotask.raster.alignment.output_grid import OutputGrid, plan_output
from aerotask.raster.alignment.pair import Pair, make_pair
from aerotask.raster.alignment.warping import fill_values_for
from aerotask.raster.alignment.writing import WarpJob, write_aligned
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile
from aerotask.raster.progress import StageProgress
from aerotask.sdk import Existing, RunContext

_MATCHED, _MEASURED = 0.35, 0.4
"""Overall progress when the match is found, and when the heights are compared."""
_SHARES = {"pixels": (_MEASURED, 0.75), "overviews": (0.75, 0.81), "cog": (0.81, 0.99)}
_PHASES = {"pixels": "moving pixels", "overviews": "writing overviews", "cog": "arranging the COG"}


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """Options of an alignment: the paths of source, reference and output, and the kind of transform."""

    source: str
    reference: str
    output: str
    mode: Mode


def run_alignment(options: AlignOptions, ctx: RunContext, *, existing: Existing) -> None:
    """Find the transform, warp the source and put the result at the output's path; `existing` is for a file there.

    Raises:
        InvalidInput: the files can't be aligned, or are no readable rasters.
        TaskFailed: no match is reliable (`no-reliable-match`).
        OSError: the disk is full or fails.
    """
    check_paths(options.source, options.reference, options.output)
    # Chips are spread over our own threads; with OpenCV's, rounding would depend on their number.
    cv2.setNumThreads(1)
    source, reference = (_read(path, ctx) for path in (options.source, options.reference))
    pair = _check(options, source, reference, ctx)
    match = _match(pair, options, ctx)
    dz = _heights(pair, match, ctx)
    grid = plan_output(pair, match.transform)
    target, covered = _write(pair, grid, dz, ctx)
    ctx.put_entry(target, at=options.output, existing=existing)
    _log_output(target, grid, covered, options, ctx)
    ctx.result(_result(pair, match, dz, grid, covered))
    ctx.progress(1.0, "done")


def _read(path: str, ctx: RunContext) -> SourceFile:
    file = ctx.input(path)
    with open_raster(file) as opened:
        profile = read_profile(opened)
    ctx.log(
        f"Reading {shown(path)}: {profile.width} × {profile.height} pixels, {profile.count} band(s) of "
        f"{profile.bands[0].dtype}, {(profile.crs or 'no CRS')[:60]}."
    )
    if profile.page_warning:
        ctx.log(f"Warning: {profile.page_warning}")
    return SourceFile(file, profile)


def _check(options: AlignOptions, source: SourceFile, reference: SourceFile, ctx: RunContext) -> Pair:
    """Repeat the checks of the submit, with the profiles of the files themselves."""
    rasters = (
        AlignInput(options.source, source.profile, None),
        AlignInput(options.reference, reference.profile, None),
    )
    for raster in rasters:
        check_alignable(raster)
    share = check_overlap(*_in_one_crs(*rasters))
    pair = make_pair(source, reference)
    ctx.log(f"The overlap is {share or 0:.0%} of the smaller raster; comparing {pair.compared}.")
    if pair.source.crs != pair.reference.crs:
        ctx.log("Their CRS differ: the reference is reprojected to the source's for the comparison.")
    if pair.of_elevations:
        ctx.log(
            "Both have a single band of a numeric type: treated as elevations, whose heights are compared too."
        )
    return pair


def _in_one_crs(source: AlignInput, reference: AlignInput) -> tuple[AlignInput, AlignInput]:
    """Both with their outlines in the source's CRS, if their CRS differ."""
    ours, theirs = source.profile, reference.profile
    if ours.crs is None or theirs.crs is None or ours.crs == theirs.crs:
        return source, reference
    outlines = []
    for profile in (ours, theirs):
        grid = map_grid(profile.geotransform or (), (profile.height, profile.width))
        corners = grid.plane_points(grid.corners())
        crs_from = ours.crs if same_crs(ours.crs, profile.crs or "") else profile.crs
        moved = reproject(corners, crs_from or ours.crs, ours.crs)
        outlines.append([(float(x), float(y)) for x, y in moved] if np.isfinite(moved).all() else [])
    return (
        AlignInput(source.path, ours, outlines[0] or None),
        AlignInput(reference.path, theirs, outlines[1] or None),
    )


def _match(pair: Pair, options: AlignOptions, ctx: RunContext) -> Match:
    match = find_match(
        pair,
        mode=options.mode,
        threads=pair.fitting_threads(ctx.threads),
        on_progress=lambda share: ctx.progress(_MATCHED * share, "comparing"),
    )
    ctx.log(
        f"Initial estimate by {match.estimate.found_by}: rotation {match.estimate.transform.rotation_deg:.2f}°, scale "
        f"{match.estimate.transform.scale:.4f}, sharpness {match.estimate.sharpness:.0f}."
    )
    ctx.log(
        f"{match.inliers} of {match.patches} patches agree with an RMSE of {match.rmse_px:.3f} px; the edge correlation is "
        f"{match.correlation:.2f}."
    )
    reasons = reasons_to_reject(match)
    if reasons:
        raise TaskFailed(
            f"No reliable match of {shown(options.source)} with {shown(options.reference)}: {'; '.join(reasons)}. "
            "Nothing was written. Check that they show the same area and that both are roughly in the right place.",
            code="no-reliable-match",
        )
    return match


def _heights(pair: Pair, match: Match, ctx: RunContext) -> float | None:
    """The offset to add to the source's heights; None for rasters that aren't elevations."""
    if not pair.of_elevations:
        return None
    dz = vertical_offset(
        pair, match.transform, factor=match.factor, threads=pair.fitting_threads(ctx.threads)
    )
    ctx.progress(_MEASURED, "comparing heights")
    if dz is not None:
        ctx.log(f"The reference is {dz:+.3f} above the source; this offset is added to every height.")
    return dz


def _write(pair: Pair, grid: OutputGrid, dz: float | None, ctx: RunContext) -> tuple[Path, int]:
    """The aligned raster in the work folder, and the number of its pixels that have a value."""
    target = ctx.workdir / "aligned.tif"
    partial = ctx.workdir / "aligned.partial.tif"
    partial.unlink(missing_ok=True)
    with open_raster(pair.source.file.path) as opened:
        scale = opened.scales[0]
    profile = pair.source.file.profile
    fill = fill_values_for(profile, offset=(dz or 0.0) / scale, palette=profile.bands[0].colour == "palette")

    job = WarpJob(pair.source.file, grid, fill)
    threads = pair.fitting_threads(ctx.threads)
    covered = write_aligned(
        job, partial, threads=threads, on_stage=StageProgress(ctx, _SHARES, _PHASES).report
    )
    partial.replace(target)
    return target, covered


def _log_output(target: Path, grid: OutputGrid, covered: int, options: AlignOptions, ctx: RunContext) -> None:
    rows, cols = grid.shape_yx
    ctx.log(
        f"Wrote {shown(options.output)}: {cols} × {rows} pixels, {target.stat().st_size / 1e6:,.1f} MB; "
        f"{covered / (rows * cols):.1%} of the pixels have a value."
    )


def _result(pair: Pair, match: Match, dz: float | None, grid: OutputGrid, covered: int) -> Mapping[str, Any]:
    """The task's result; `dx` and `dy` are the shift at the centre of the overlap, the plane's origin."""
    shift = np.array([[match.transform.shift.real, match.transform.shift.imag]])
    centre = np.array([[0.0, 0.0]])
    dx, dy = (pair.plane.to_map(shift) - pair.plane.to_map(centre))[0]
    dx_px, dy_px = (pair.locate_in_source(shift) - pair.locate_in_source(centre))[0]
    x, y = pair.plane.centre
    return {
        "dx": float(dx),
        "dy": float(dy),
        "dxPx": float(dx_px),
        "dyPx": float(dy_px),
        "rotationDeg": match.transform.rotation_deg,
        "scale": match.transform.scale,
        "dz": dz,
        "inliers": match.inliers,
        "inlierRatio": match.inlier_ratio,
        "rmsePx": match.rmse_px if math.isfinite(match.rmse_px) else None,
        "confidence": confidence(match),
        "mode": match.mode,
        "centre": [x, y],
        "sharpness": match.estimate.sharpness,
        "correlation": match.correlation,
        "width": grid.shape_yx[1],
        "height": grid.shape_yx[0],
        "validPixels": covered,
    }

"""One alignment from beginning to end, told to a run's context: what was read, found and written, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from aerotask.domain.errors import TaskFailed
from aerotask.domain.paths import shown
from aerotask.raster.alignment.checks import AlignInput, check_overlap, check_paths, check_subject
from aerotask.raster.alignment.common_grid import map_grid, reproject, same_crs
from aerotask.raster.alignment.elevation import vertical_offset
from aerotask.raster.alignment.match.matching import Match, find_match
from aerotask.raster.alignment.match.quality import confidence, doubts
from aerotask.raster.alignment.match.similarity import Mode
from aerotask.raster.alignment.output_grid import OutputGrid, plan_output
from aerotask.raster.alignment.pair import Pair, make_pair
from aerotask.raster.alignment.warping import fill_values_for
from aerotask.raster.alignment.writing import WarpJob, write_aligned
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile
from aerotask.raster.progress import StageProgress
from aerotask.sdk import RunContext

_MATCHED, _MEASURED = 0.35, 0.4
"""How much of the whole is done when the match is found, and when the heights are compared."""
_SHARES = {"pixels": (_MEASURED, 0.75), "overviews": (0.75, 0.81), "cog": (0.81, 0.99)}
_PHASES = {"pixels": "moving pixels", "overviews": "writing overviews", "cog": "arranging the COG"}


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """What is to be aligned to what, and where the result goes."""

    source: str
    reference: str
    output: str
    mode: Mode


def run_alignment(wish: AlignOptions, ctx: RunContext) -> None:
    """Find the transform, write the moved source and put it at the output's path.

    Raises:
        InvalidInput: the real files can't be aligned, or are no readable rasters.
        TaskFailed: no match can be trusted (`no-reliable-match`), or the result can't be written.
        OSError: the disk is full, or fails.
    """
    check_paths(wish.source, wish.reference, wish.output)
    # Pieces are spread over our own threads; OpenCV's would round differently with their number.
    cv2.setNumThreads(1)
    source, reference = (_read(path, ctx) for path in (wish.source, wish.reference))
    pair = _check(wish, source, reference, ctx)
    match = _match(pair, wish, ctx)
    dz = _heights(pair, match, ctx)
    grid = plan_output(pair, match.transform)
    covered = _write(pair, grid, dz, wish, ctx)
    ctx.result(_outcome(pair, match, dz, grid, covered))
    ctx.progress(1.0, "done")


def _read(path: str, ctx: RunContext) -> SourceFile:
    file = ctx.input(path)
    with open_raster(file) as opened:
        profile = read_profile(opened)
    ctx.log(
        f"Reading {shown(path)}: {profile.width} × {profile.height} pixels, {profile.count} band(s) of "
        f"{profile.bands[0].dtype}, {(profile.crs or 'no CRS')[:60]}."
    )
    return SourceFile(file, profile)


def _check(wish: AlignOptions, source: SourceFile, reference: SourceFile, ctx: RunContext) -> Pair:
    """The same refusals as at submit, now from the real files."""
    subjects = (
        AlignInput(wish.source, source.profile, None),
        AlignInput(wish.reference, reference.profile, None),
    )
    for subject in subjects:
        check_subject(subject)
    share = check_overlap(*_in_one_crs(*subjects))
    pair = make_pair(source, reference)
    ctx.log(f"They overlap by {share or 0:.0%} of the smaller one; comparing {pair.compared}.")
    if pair.source.crs != pair.reference.crs:
        ctx.log("Their CRS differ: the reference is projected to the source's wherever it is compared.")
    if pair.of_elevations:
        ctx.log("Both are single bands of numbers: taken for elevations, so their heights are compared too.")
    return pair


def _in_one_crs(source: AlignInput, reference: AlignInput) -> tuple[AlignInput, AlignInput]:
    """Both with their outlines in the source's CRS, if they have different ones."""
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


def _match(pair: Pair, wish: AlignOptions, ctx: RunContext) -> Match:
    match = find_match(
        pair,
        mode=wish.mode,
        threads=pair.fitting_threads(ctx.threads),
        on_progress=lambda share: ctx.progress(_MATCHED * share, "comparing"),
    )
    ctx.log(
        f"First idea by {match.seed.found_by}: rotation {match.seed.transform.rotation_deg:.2f}°, scale "
        f"{match.seed.transform.scale:.4f}, sharpness {match.seed.sharpness:.0f}."
    )
    ctx.log(
        f"{match.inliers} of {match.patches} patches agree within {match.rmse_px:.3f} px; the edges' correlation is "
        f"{match.correlation:.2f}."
    )
    against = doubts(match)
    if against:
        raise TaskFailed(
            f"No reliable match of {shown(wish.source)} with {shown(wish.reference)}: {'; '.join(against)}. "
            "Nothing was written. Do they show the same place, and are they roughly where they belong?",
            code="no-reliable-match",
        )
    return match


def _heights(pair: Pair, match: Match, ctx: RunContext) -> float | None:
    """What has to be added to the source's heights; None for what isn't elevations."""
    if not pair.of_elevations:
        return None
    dz = vertical_offset(
        pair, match.transform, factor=match.factor, threads=pair.fitting_threads(ctx.threads)
    )
    ctx.progress(_MEASURED, "comparing heights")
    if dz is not None:
        ctx.log(f"The reference lies {dz:+.3f} above the source; that is added to every height.")
    return dz


def _write(pair: Pair, grid: OutputGrid, dz: float | None, wish: AlignOptions, ctx: RunContext) -> int:
    """Write under a temporary name and rename, so that the target is never half a file."""
    target = ctx.workdir / "aligned.tif"
    partial = ctx.workdir / "aligned.partial.tif"
    partial.unlink(missing_ok=True)
    with open_raster(pair.source.file.path) as opened:
        scale = opened.scales[0]
    profile = pair.source.file.profile
    filling = fill_values_for(
        profile, offset=(dz or 0.0) / scale, palette=profile.bands[0].colour == "palette"
    )

    move = WarpJob(pair.source.file, grid, filling)
    threads = pair.fitting_threads(ctx.threads)
    covered = write_aligned(
        move, partial, threads=threads, on_stage=StageProgress(ctx, _SHARES, _PHASES).tell
    )
    partial.replace(target)
    ctx.put_entry(target, at=wish.output)
    rows, cols = grid.shape_yx
    ctx.log(
        f"Wrote {shown(wish.output)}: {cols} × {rows} pixels, {target.stat().st_size / 1e6:,.1f} MB; "
        f"{covered / (rows * cols):.1%} of the pixels have a value."
    )
    return covered


def _outcome(pair: Pair, match: Match, dz: float | None, grid: OutputGrid, covered: int) -> Mapping[str, Any]:
    """`dx` and `dy` are the shift at the centre of the overlap, which is the plane's origin."""
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
        "sharpness": match.seed.sharpness,
        "correlation": match.correlation,
        "width": grid.shape_yx[1],
        "height": grid.shape_yx[0],
        "validPixels": covered,
    }

"""Coarse-to-fine matching: an initial estimate, refined by patches at increasing detail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from aerotask.raster.alignment.common_grid import Grid
from aerotask.raster.alignment.match.gradient import GradientImage, gradient_of
from aerotask.raster.alignment.match.initial_estimate import ESTIMATE_PX, InitialEstimate, estimate_transform
from aerotask.raster.alignment.match.patches import Patches, PatchSearch, correlation_of, match_patches
from aerotask.raster.alignment.match.pyramid import (
    MOST_PATCHES,
    Chip,
    PixelBox,
    level_factors,
    patch_side,
    plan_chips,
)
from aerotask.raster.alignment.match.robust import RobustFit, robust_fit
from aerotask.raster.alignment.match.sampling import PlaneView
from aerotask.raster.alignment.match.similarity import Mode, Points, Similarity
from aerotask.raster.alignment.pair import Pair, pixels_along
from aerotask.raster.parallel import run_in_threads

TOLERANCE_PX = 3.0
"""Inlier tolerance of patches; local distortions of an orthophoto are below it."""
FIRST_REACH_PX, NEXT_REACH_PX, LAST_REACH_PX = 24, 12, 4
"""Search radius of patches: after the initial estimate, after a coarser level, and in a level's second pass."""
FINEST_PX = 1e-5
"""The result is rounded to this: a thousandth of its error."""
_ESTIMATE_MARGIN = 0.1
"""Margin on every side, as a share of the overlap: a misplaced raster shows things beyond it."""

OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Match:
    """Match, reliable or not; `transform` is of the pair's plane, lengths are in pixels of `factor`."""

    transform: Similarity
    mode: Mode
    estimate: InitialEstimate
    factor: int
    patches: int
    inliers: int
    rmse_px: float
    correlation: float
    """Correlation of both rasters' edges over the whole overlap, after the alignment."""

    @property
    def inlier_ratio(self) -> float:
        """The share of patches that agree."""
        return self.inliers / self.patches if self.patches else 0.0


def find_match(pair: Pair, *, mode: Mode, threads: int, on_progress: OnProgress) -> Match:
    """Find the transform, refined as far as enough patches agree."""
    box = overlap_box(pair, Similarity(1 + 0j, 0j))
    grid = estimate_grid(pair, box)
    with pair.views(factor=int(grid.pixel_length / pair.source_grid.pixel_length)) as views:
        in_memory = views[0].in_memory(grid), views[1].in_memory(grid)
    shown = gradient_of(in_memory[0].on(grid))
    estimate = estimate_transform(shown, gradient_of(in_memory[1].on(grid)), grid, mode=mode)
    on_progress(0.4)
    transform, fit, patches = estimate.transform, None, 0
    passes = plan_passes(pair, grid)
    for number, step in enumerate(passes):
        fits_in_memory = step.factor == passes[0].factor > 1
        pass_run = _PassRun(pair, transform, step, in_memory if fits_in_memory else None)
        fit, patches = pass_run.run(mode=mode, threads=threads)
        on_progress(0.4 + 0.6 * (number + 1) / len(passes))
        if fit is None:
            break
        transform = fit.transform
    correlation = _common_correlation(shown, gradient_of(in_memory[1].on(grid, transform)))
    return Match(
        transform=transform.rounded(length=FINEST_PX * pair.source_grid.pixel_length),
        mode=mode,
        estimate=estimate,
        factor=passes[-1].factor,
        patches=patches,
        inliers=fit.count if fit else 0,
        rmse_px=fit.rmse if fit else math.inf,
        correlation=correlation,
    )


@dataclass(frozen=True, slots=True)
class Pass:
    """Pass of the refinement: level of detail and search radius of its patches."""

    factor: int
    reach_px: int
    is_last: bool = False


def plan_passes(pair: Pair, grid: Grid) -> tuple[Pass, ...]:
    """Two passes at the first and the last level, to remove the pull of whole pixels, and one at each in between."""
    pixel = pair.source_grid.pixel_length
    factors = level_factors(grid.pixel_length / pixel, finest_factor(pair))
    passes = [Pass(factors[0], FIRST_REACH_PX), Pass(factors[0], LAST_REACH_PX)]
    passes += [Pass(factor, NEXT_REACH_PX, is_last=factor == factors[-1]) for factor in factors[1:]]
    if len(factors) > 1:
        passes.append(Pass(factors[-1], LAST_REACH_PX, is_last=True))
    return tuple(passes)


def finest_factor(pair: Pair) -> int:
    """The length of the reference's pixels in pixels of the source, rounded; 1 where they are shorter."""
    return max(round(1 / pixels_along(pair.locate_in_reference, pair.source_grid.pixel_length)), 1)


def overlap_box(pair: Pair, transform: Similarity) -> PixelBox:
    """The source's pixels that overlap the reference once the source is transformed; at least one pixel."""
    corners = transform.inverse().of(pair.reference_points(pair.reference.in_map.corners()))
    pixels = pair.source_grid.pixels(corners)
    rows, cols = pair.source.in_map.shape_yx
    left, top = (max(math.floor(value), 0) for value in pixels.min(axis=0))
    right, bottom = (math.ceil(value) for value in pixels.max(axis=0))
    right, bottom = min(right, cols), min(bottom, rows)
    return PixelBox(min(left, cols - 1), min(top, rows - 1), max(right, left + 1), max(bottom, top + 1))


def estimate_grid(pair: Pair, box: PixelBox) -> Grid:
    """The grid for the initial estimate: at most `ESTIMATE_PX` square pixels each way, over the overlap and a margin."""
    margin_x, margin_y = (round(side * _ESTIMATE_MARGIN) for side in (box.width, box.height))
    edges = [(box.left - margin_x, box.top - margin_y), (box.right + margin_x, box.bottom + margin_y)]
    (left, top), (right, bottom) = edges
    around = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    points = pair.source_grid.plane_points(around)
    low, high = points.min(axis=0), points.max(axis=0)
    step = max(float((high - low).max()) / ESTIMATE_PX, pair.source_grid.pixel_length * finest_factor(pair))
    cols, rows = (max(int(size / step), 1) for size in high - low)
    return Grid(np.array([[step, 0, low[0]], [0, -step, high[1]]]), (rows, cols))


@dataclass(frozen=True, slots=True)
class _PassRun:
    """Execution of one pass: patches of the source, as transformed so far, are searched in the reference.

    `in_memory` are both rasters in memory, if they have all the detail that the pass needs.
    """

    pair: Pair
    transform: Similarity
    step: Pass
    in_memory: tuple[PlaneView, PlaneView] | None

    def run(self, *, mode: Mode, threads: int) -> tuple[RobustFit | None, int]:
        """Return the transform that fits the patches, and the number of patches."""
        box = overlap_box(self.pair, self.transform)
        chips = plan_chips(box, self.step.factor)
        max_count = math.ceil(MOST_PATCHES / len(chips)) if chips else 0
        search = PatchSearch(patch_side(box, self.step.factor), self.step.reach_px, max_count)
        found: dict[Chip, tuple[Points, Points]] = {}
        run_in_threads(
            chips,
            threads=threads,
            worker=lambda: self._matcher(search),
            on_result=lambda ends: found.update({ends[0]: ends[1:]}),
        )
        if not found:
            return None, 0
        sources, targets = (np.concatenate([found[chip][end] for chip in chips]) for end in (0, 1))
        unit = self.pair.source_grid.pixel_length * self.step.factor
        return robust_fit(sources, targets, mode=mode, tolerance=TOLERANCE_PX, unit=unit), len(sources)

    @contextmanager
    def _matcher(self, search: PatchSearch) -> Iterator[Callable[[Chip], tuple[Chip, Points, Points]]]:
        with self._views() as views:

            def match(chip: Chip) -> tuple[Chip, Points, Points]:
                grid = chip_grid(self.pair, chip, self.step.factor)
                patches = _match_chip(views, grid, self.transform, search)
                found = self.transform.of(grid.plane_points(patches.found))
                return chip, grid.plane_points(patches.centres), found

            yield match

    def _views(self) -> AbstractContextManager[tuple[PlaneView, PlaneView]]:
        if self.in_memory:
            return nullcontext(self.in_memory)
        return self.pair.views(factor=1 if self.step.is_last else self.step.factor)


def chip_grid(pair: Pair, chip: Chip, factor: int) -> Grid:
    """A chip of the source as a grid of the plane, in the level's pixels."""
    return pair.source_grid.part(left=chip.left, top=chip.top, step=factor, shape_yx=chip.shape_yx)


def _match_chip(
    views: tuple[PlaneView, PlaneView], grid: Grid, transform: Similarity, search: PatchSearch
) -> Patches:
    rows, cols = grid.shape_yx
    reach = search.reach_px
    around = grid.part(left=-reach, top=-reach, step=1, shape_yx=(rows + 2 * reach, cols + 2 * reach))
    shown = gradient_of(views[0].on(grid))
    return match_patches(shown, gradient_of(views[1].on(around, transform)), search)


def _common_correlation(one: GradientImage, other: GradientImage) -> float:
    common = one.valid & other.valid
    if not common.any():
        return 0.0
    first, second = one.strength[common], other.strength[common]
    return correlation_of(first - first.mean(), second - second.mean())

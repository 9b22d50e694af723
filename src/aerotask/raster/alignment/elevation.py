"""The height by which one elevation model lies above another, once they lie on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.alignment.match.matching import chip_grid, overlap_box
from aerotask.raster.alignment.match.pyramid import Chip, plan_chips
from aerotask.raster.alignment.match.robust import TUKEY_CUT
from aerotask.raster.alignment.match.similarity import Similarity
from aerotask.raster.alignment.pair import Pair
from aerotask.raster.parallel import run_in_threads

MAD_TO_SIGMA = 1.4826
_STRIDE = 3
"""Every third pixel both ways tells enough."""


def vertical_offset(pair: Pair, transform: Similarity, *, factor: int, threads: int) -> float | None:
    """What has to be added to the source's heights to reach the reference's; None where both have none in common.

    It is the mean of the differences within 4.685 robust standard deviations of their median: what was built, dug or
    grown in between doesn't count.
    """
    chips = plan_chips(overlap_box(pair, transform), factor)
    found: dict[Chip, NDArray[np.float32]] = {}

    @contextmanager
    def worker() -> Iterator[Callable[[Chip], tuple[Chip, NDArray[np.float32]]]]:
        with pair.views() as (source, reference):

            def differences(chip: Chip) -> tuple[Chip, NDArray[np.float32]]:
                grid = chip_grid(pair, chip, factor)
                here, there = source.on(grid), reference.on(grid, transform)
                both = here.valid & there.valid
                sparse = np.zeros_like(both)
                sparse[::_STRIDE, ::_STRIDE] = True
                return chip, (there.values - here.values)[both & sparse]

            yield differences

    run_in_threads(
        chips, threads=threads, worker=worker, on_result=lambda one: found.update({one[0]: one[1]})
    )
    values = np.concatenate([found[chip] for chip in chips]).astype(np.float64) if found else np.empty(0)
    return robust_mean(values) if values.size else None


def robust_mean(values: NDArray[np.float64]) -> float:
    """The mean of the values that lie near their median."""
    median = float(np.median(values))
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - median)))
    near = np.abs(values - median) <= TUKEY_CUT * sigma
    return float(values[near].mean()) if sigma > 0 else median

"""Vertical offset between two elevation models after their horizontal alignment."""

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
"""Every third pixel in both directions is enough."""


def vertical_offset(pair: Pair, transform: Similarity, *, factor: int, threads: int) -> float | None:
    """The offset to add to the source's heights to match the reference's; None without common heights.

    It is the mean of the differences within 4.685 robust standard deviations of their median, so that construction,
    excavation and growth between the two surveys are left out.
    """
    chips = plan_chips(overlap_box(pair, transform), factor)
    found: dict[Chip, NDArray[np.float32]] = {}

    @contextmanager
    def worker() -> Iterator[Callable[[Chip], tuple[Chip, NDArray[np.float32]]]]:
        with pair.views() as (source, reference):

            def differences(chip: Chip) -> tuple[Chip, NDArray[np.float32]]:
                grid = chip_grid(pair, chip, factor)
                source_image, reference_image = source.on(grid), reference.on(grid, transform)
                both = source_image.valid & reference_image.valid
                sparse = np.zeros_like(both)
                sparse[::_STRIDE, ::_STRIDE] = True
                return chip, (reference_image.values - source_image.values)[both & sparse]

            yield differences

    run_in_threads(
        chips, threads=threads, worker=worker, on_result=lambda one: found.update({one[0]: one[1]})
    )
    values = np.concatenate([found[chip] for chip in chips]).astype(np.float64) if found else np.empty(0)
    return robust_mean(values) if values.size else None


def robust_mean(values: NDArray[np.float64]) -> float:
    """The mean of the values near their median."""
    median = float(np.median(values))
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(values - median)))
    near = np.abs(values - median) <= TUKEY_CUT * sigma
    return float(values[near].mean()) if sigma > 0 else median

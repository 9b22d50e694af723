"""scikit-image's phase correlation, in its own environment: align_skimage.py REFERENCE SOURCE …"""

from __future__ import annotations

from pathlib import Path

import rasterio
from benchmarks.peers.align_clock import Rows, run_cases
from skimage.registration import phase_cross_correlation


def find(source: Path, reference: Path) -> Rows | None:
    with rasterio.open(source) as ours, rasterio.open(reference) as theirs:
        here, there = (each.read(out_dtype="float32").mean(axis=0) for each in (ours, theirs))
    (down, right), *_ = phase_cross_correlation(there, here, upsample_factor=100)
    return [[1, 0, float(right)], [0, 1, float(down)]]


run_cases(find)

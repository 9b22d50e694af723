"""OpenCV's ECC with an affine model, coarse to fine: align_ecc.py REFERENCE SOURCE …"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import rasterio
from benchmarks.peers.align_clock import Rows, rows, run_cases

CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-6)


def grey(path: Path) -> cv2.typing.MatLike:
    with rasterio.open(path) as opened:
        return np.asarray(opened.read(out_dtype="float32").mean(axis=0), np.float32)


def find(source: Path, reference: Path) -> Rows | None:
    ours, theirs = grey(source), grey(reference)
    matrix = np.eye(2, 3, dtype=np.float32)
    for factor in (16, 8, 4, 2, 1):
        small = [
            cv2.resize(each, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
            for each in (ours, theirs)
        ]
        level = matrix.copy()
        level[:, 2] /= factor
        everywhere = np.full(small[1].shape, 255, np.uint8)
        try:
            _, found = cv2.findTransformECC(
                small[0], small[1], level, cv2.MOTION_AFFINE, CRITERIA, everywhere, 5
            )
        except cv2.error:
            return None
        matrix = np.array(found, np.float32)
        matrix[:, 2] *= factor
    return rows(matrix)


run_cases(find)

"""SIFT features and RANSAC of OpenCV: align_sift.py REFERENCE SOURCE …"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import rasterio
from benchmarks.peers.align_clock import Rows, rows, run_cases

FEATURES = 4000


def grey(path: Path) -> cv2.typing.MatLike:
    with rasterio.open(path) as opened:
        return np.asarray(opened.read().mean(axis=0), np.uint8)


def find(source: Path, reference: Path) -> Rows | None:
    sift = cv2.SIFT.create(FEATURES)
    ours, theirs = (sift.detectAndCompute(grey(path), None) for path in (source, reference))
    pairs = cv2.BFMatcher().knnMatch(ours[1], theirs[1], k=2)
    good = [best for best, second in pairs if best.distance < 0.75 * second.distance]
    if len(good) < 3:
        return None
    here = np.array([ours[0][match.queryIdx].pt for match in good], np.float32)
    there = np.array([theirs[0][match.trainIdx].pt for match in good], np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=1.0)
    return rows(np.asarray(matrix))


run_cases(find)

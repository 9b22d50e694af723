"""align-raster's match: align_ours.py REFERENCE SOURCE …; a match that it doubts counts as not found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from benchmarks.peers.align_clock import Rows, rows, run_cases

from aerotask.raster.alignment.match.matching import find_match
from aerotask.raster.alignment.match.quality import reasons_to_reject
from aerotask.raster.alignment.pair import make_pair
from aerotask.raster.header import read_profile
from aerotask.raster.io import open_raster
from aerotask.raster.pixels import SourceFile


def source_file(path: Path) -> SourceFile:
    with open_raster(path) as opened:
        return SourceFile(path, read_profile(opened))


def find(source: Path, reference: Path) -> Rows | None:
    pair = make_pair(source_file(source), source_file(reference))
    match = find_match(pair, mode="similarity", threads=2, on_progress=lambda _share: None)
    if reasons_to_reject(match):
        return None
    points = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]]) + 0.5
    moved = pair.locate_in_reference(match.transform.of(pair.source_grid.plane_points(points))) - 0.5
    columns = (moved[1] - moved[0]) / 1000, (moved[2] - moved[0]) / 1000, moved[0]
    return rows(np.column_stack(columns))


cv2.setNumThreads(1)
run_cases(find)

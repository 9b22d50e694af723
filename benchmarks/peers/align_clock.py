"""Report format of the candidates of `align.py`: the matrix found, and its time without imports."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def peak_mib() -> float:
    """Peak memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


Rows = Sequence[Sequence[float]]


def rows(matrix: Any) -> Rows:
    """A 2 × 3 array as lists, for JSON."""
    return [[float(value) for value in row] for row in matrix]


def run_cases(find: Callable[[Path, Path], Rows | None]) -> None:
    """Calls `find(source, reference)` for each source on the command line, where the reference comes first."""
    reference, *sources = map(Path, sys.argv[1:])
    for source in sources:
        wall, cpu = time.perf_counter(), time.process_time()
        matrix = find(source, reference)
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps({"source": str(source), "matrix": matrix, **took}), flush=True)

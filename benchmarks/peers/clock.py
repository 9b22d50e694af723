"""Report format of the candidates: work time without the start of Python and imports."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

TILE_PX = 512
DEFLATE_LEVEL = 4
RED, NIR = 1, 4
STOPS = ("d73027", "fdae61", "fee08b", "a6d96a", "1a9850")


class Clock:
    """Adds up named phases."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start

    def report(self) -> None:
        print(json.dumps(self.phases))

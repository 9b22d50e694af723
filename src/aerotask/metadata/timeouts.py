"""Time limits for metadata extraction, on upload and on rescan alike."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

MIN_CPU_S = 5.0
"""For one file, besides the time to read it."""
MAX_CPU_S = 60.0
MIN_BYTES_PER_S = 20_000_000
WALL_FACTOR = 3
"""Time that passes on a busy machine or a slow storage while a process gets a second of the processor."""


def cpu_limit_s(file_bytes: int) -> float:
    """Processor time for a file of this size; it doesn't depend on what else the machine does."""
    return min(MIN_CPU_S + file_bytes / MIN_BYTES_PER_S, MAX_CPU_S)


def extraction_timeout_s(file_bytes: int) -> float:
    """Time after which the extraction from a file of this size is ended even if it has hardly used the processor."""
    return WALL_FACTOR * cpu_limit_s(file_bytes)


@contextmanager
def cpu_deadline(cpu_s: float) -> Iterator[None]:
    """Lets the kernel end this process by SIGPROF, also within native code, once the block has used so much processor time."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)

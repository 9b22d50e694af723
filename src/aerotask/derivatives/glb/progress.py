"""Progress of the parts of a build."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]
"""Function that gets the share that is done, from 0 to 1; it may raise to end the build."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a part of the work that takes it from `start` to `end`."""
    return lambda share: progress(start + (end - start) * min(share, 1.0))

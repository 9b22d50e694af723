"""Overall progress of a run, from the progress of its weighted stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aerotask.sdk import RunContext

SMALLEST_STEP = 0.005
"""Progress is reported in steps of at least this."""


class StageProgress:
    """Progress reporter that maps the stages of a run to 0 to 1."""

    def __init__(
        self, ctx: RunContext, shares: Mapping[str, tuple[float, float]], phases: Mapping[str, str]
    ) -> None:
        """Take each stage's part of the whole, as start and end, and its name for users."""
        self._ctx = ctx
        self._shares = shares
        self._phases = phases
        self._reported = 0.0

    def reporter(self, stage: str) -> Callable[[float], None]:
        """A callback that reports the fraction of one stage."""
        return lambda fraction: self.report(stage, fraction)

    def report(self, stage: str, fraction: float) -> None:
        """Report the fraction of a stage that is done, if the whole has advanced by `SMALLEST_STEP`."""
        start, end = self._shares[stage]
        overall = start + (end - start) * fraction
        if overall >= self._reported + SMALLEST_STEP:
            self._reported = overall
            self._ctx.progress(overall, self._phases[stage])

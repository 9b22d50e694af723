"""Tells how far a run is as a whole from how far each of its stages is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aerotask.sdk import RunContext

SMALLEST_STEP = 0.005
"""Progress is reported in steps of at least this."""


class StageProgress:
    """Spreads the stages of a run over 0 to 1."""

    def __init__(
        self, ctx: RunContext, shares: Mapping[str, tuple[float, float]], phases: Mapping[str, str]
    ) -> None:
        """Take the part of the whole, from and to, that each stage is, and what it is called."""
        self._ctx = ctx
        self._shares = shares
        self._phases = phases
        self._told = 0.0

    def of(self, stage: str) -> Callable[[float], None]:
        """What to call with the fraction of a stage that is done."""
        return lambda fraction: self.tell(stage, fraction)

    def tell(self, stage: str, fraction: float) -> None:
        """A fraction of a stage is done."""
        start, end = self._shares[stage]
        overall = start + (end - start) * fraction
        if overall >= self._told + SMALLEST_STEP:
            self._told = overall
            self._ctx.progress(overall, self._phases[stage])

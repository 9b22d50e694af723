"""Computation of the values that are shown: a formula's result, or the bands themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aerotask.raster.export.plan import ExportPlan
from aerotask.raster.expression.compiler import compile_expression
from aerotask.raster.expression.evaluate import Evaluator, Flags, Floats
from aerotask.raster.pixels import CHUNK_PX

Computation = Callable[[Sequence[Floats], Flags], Sequence[Floats]]
"""Maps one flat array for each of the plan's `source_bands` to one for each channel of the result, and clears the flags
of pixels that have no value."""


def computation_for(plan: ExportPlan) -> Computation:
    """The plan's computation, for one thread."""
    if plan.formula is None:
        positions = [plan.source_bands.index(band) for band in plan.channels]
        return lambda planes, _valid: [planes[position] for position in positions]
    evaluate = Evaluator(compile_expression(plan.formula.expression, plan.names), chunk_px=CHUNK_PX)
    return lambda planes, valid: [evaluate(planes, valid)]

"""From the pixels of the bands to the values that are shown: a formula's result, or the bands themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aerotask.raster.export.plan import ExportPlan
from aerotask.raster.expression.compiler import compile_expression
from aerotask.raster.expression.evaluate import Evaluator, Flags, Floats
from aerotask.raster.pixels import CHUNK_PX

Computation = Callable[[Sequence[Floats], Flags], Sequence[Floats]]
"""Takes one flat array for each of the recipe's `source_bands`, gives one for each channel of the result, and clears
the flags of pixels that have no value."""


def computation_for(recipe: ExportPlan) -> Computation:
    """The recipe's computation, for one thread."""
    if recipe.formula is None:
        positions = [recipe.source_bands.index(band) for band in recipe.channels]
        return lambda planes, _valid: [planes[position] for position in positions]
    evaluate = Evaluator(
        compile_expression(recipe.formula.expression, recipe.names),
        chunk_px=CHUNK_PX,
        positive_bands=recipe.formula.positive_bands,
    )
    return lambda planes, valid: [evaluate(planes, valid)]

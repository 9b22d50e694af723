"""Evaluator of a formula's program over chunks of pixels, in float32 and without allocating."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.expression.compiler import Program

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

SMALLEST_DENOMINATOR = np.float32(1e-10)
"""Divisions by a number closer to 0 than this have no result."""

_UFUNCS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
}


class Evaluator:
    """Evaluator of one program for one thread, with its registers.

    Call it within `np.errstate(all="ignore")`: a failure in a pixel clears its flag instead of raising a warning.
    """

    def __init__(self, program: Program, *, chunk_px: int, positive_bands: bool = False) -> None:
        self._program = program
        self._positive_bands = positive_bands
        self._constants = [np.float32(value) for value in program.constants]
        self._scratch = np.empty((program.scratch_count, chunk_px), np.float32)
        self._magnitude = np.empty(chunk_px, np.float32)
        self._flags = np.empty(chunk_px, np.bool_)

    def __call__(self, planes: Sequence[Floats], valid: Flags) -> Floats:
        """The value of every pixel; `valid` is cleared where there is none.

        `planes` holds one array for each of the program's bands; all arrays are flat and of one length. The
        result is one of the registers, overwritten by the next call. A division by less than
        `SMALLEST_DENOMINATOR` and a result that isn't finite clear the pixel's flag.
        """
        count = valid.size
        flags = self._flags[:count]
        if self._positive_bands:
            for plane in planes:
                narrow(valid, np.greater(plane, 0, out=flags))
        registers: list[Any] = [*planes, *self._constants, *self._scratch[:, :count]]
        for step in self._program.steps:
            left, right, out = registers[step.left], registers[step.right], registers[step.out]
            if step.opcode == "negate":
                np.negative(left, out=out)
                continue
            if step.opcode == "/":
                self._clear_small(right, valid)
            _UFUNCS[step.opcode](left, right, out=out)
        result: Floats = registers[self._program.result]
        narrow(valid, np.isfinite(result, out=flags))
        return result

    def _clear_small(self, denominator: Floats, valid: Flags) -> None:
        magnitude, flags = self._magnitude[: valid.size], self._flags[: valid.size]
        np.abs(denominator, out=magnitude)
        narrow(valid, np.greater_equal(magnitude, SMALLEST_DENOMINATOR, out=flags))


def narrow(valid: Flags, still: Flags) -> None:
    """Clear the flags of `valid` where `still` is false; usually none is, and testing that is faster than `and`."""
    if not still.all():
        np.logical_and(valid, still, out=valid)

"""Evaluator of a formula's program over chunks of pixels, in float32 and without allocating.

An operation that has no result in a pixel leaves NaN there, and every operation on it, too; only `where` drops the
value that it doesn't take. So the pixels without a value are those that aren't finite in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerotask.raster.expression.compiler import Opcode, Program
from aerotask.raster.expression.syntax import COMPARISONS

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

SMALLEST_DENOMINATOR = np.finfo(np.float32).smallest_normal
"""Divisions by a number closer to 0 than this have no result: below it, float32 has no full precision (1.2e-38)."""

_UFUNCS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "negate": np.negative,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "log": np.log,
    "log10": np.log10,
    "exp": np.exp,
}
# Operations that could turn a missing value into a number (NaN ^ 0 is 1, NaN > 0 is false).
_HIDE_MISSING = frozenset({"^", *COMPARISONS})
# Operations whose infinite result is none: log(0), 0^-1, and what is too large for float32.
_UNBOUNDED = frozenset({"^", "log", "log10", "exp"})


class Evaluator:
    """Evaluator of one program for one thread, with its registers.

    Call it within `np.errstate(all="ignore")`: a failure in a pixel clears its flag instead of raising a warning.
    """

    def __init__(self, program: Program, *, chunk_px: int) -> None:
        self._program = program
        with np.errstate(over="ignore"):
            self._constants = [np.float32(value) for value in program.constants]
        self._scratch = np.empty((program.scratch_count, chunk_px), np.float32)
        self._magnitude = np.empty(chunk_px, np.float32)
        self._flags = np.empty(chunk_px, np.bool_)
        self._more_flags = np.empty(chunk_px, np.bool_)

    def __call__(self, planes: Sequence[Floats], valid: Flags) -> Floats:
        """The value of every pixel; `valid` is cleared where there is none.

        `planes` holds one array for each of the program's bands; all arrays are flat and of one length. The
        result is one of the registers, overwritten by the next call.
        """
        count = valid.size
        registers: list[Any] = [*planes, *self._constants, *self._scratch[:, :count]]
        for step in self._program.steps:
            sources = [registers[operand] for operand in step.operands]
            self._run(step.opcode, sources, registers[step.out])
        result: Floats = registers[self._program.result]
        narrow(valid, np.isfinite(result, out=self._flags[:count]))
        return result

    def _run(self, opcode: Opcode, sources: Sequence[Any], out: Floats) -> None:
        if opcode == "where":
            self._select(sources, out)
            return
        defined = self._defined(opcode, sources, out.size)
        _UFUNCS[opcode](*sources, out=out)
        if defined is not None and not defined.all():
            np.copyto(out, np.nan, where=np.logical_not(defined, out=defined))
        if opcode in _UNBOUNDED:
            infinite = np.isinf(out, out=self._flags[: out.size])
            if infinite.any():
                np.copyto(out, np.nan, where=infinite)

    def _defined(self, opcode: Opcode, sources: Sequence[Any], count: int) -> Flags | None:
        """Flags of the pixels whose operands allow a result; None if the operation itself sees to that."""
        flags = self._flags[:count]
        if opcode == "/":
            if isinstance(sources[1], np.float32) and abs(sources[1]) >= SMALLEST_DENOMINATOR:
                return None
            magnitude = np.abs(sources[1], out=self._magnitude[:count])
            np.greater_equal(magnitude, SMALLEST_DENOMINATOR, out=flags)
            return flags
        if opcode in _HIDE_MISSING:
            np.isfinite(sources[0], out=flags)
            others = np.isfinite(sources[1], out=self._more_flags[:count])
            np.logical_and(flags, others, out=flags)
            return flags
        return None

    def _select(self, sources: Sequence[Any], out: Floats) -> None:
        """Fill `out`, which may be one of the operands, by the condition: 0 is false, NaN has no result."""
        condition, chosen, otherwise = sources
        count = out.size
        is_false = np.equal(condition, 0, out=self._flags[:count])
        unknown = np.isnan(condition, out=self._more_flags[:count])
        if out is otherwise:
            np.copyto(out, chosen, where=np.logical_not(is_false, out=is_false))
        else:
            if out is not chosen:
                np.copyto(out, chosen)
            np.copyto(out, otherwise, where=is_false)
        if unknown.any():
            np.copyto(out, np.nan, where=unknown)


def narrow(valid: Flags, still: Flags) -> None:
    """Clear the flags of `valid` where `still` is false; usually none is, and testing that is faster than `and`."""
    if not still.all():
        np.logical_and(valid, still, out=valid)

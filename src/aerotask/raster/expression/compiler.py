"""Compiler of formulas to a flat list of steps over numbered registers, run for every chunk of pixels.

Registers are numbered consecutively: first the bands, then the constants, then scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aerotask.raster.expression.parser import Expression, Name, Negation, Number, Operation, Operator, names

Opcode = Operator | Literal["negate"]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation; `negate` ignores `right`."""

    opcode: Opcode
    left: int
    right: int
    out: int


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order; afterwards the register `result` holds the value."""

    bands: tuple[int, ...]
    """The source band (counted from 1) behind each of the first registers."""
    constants: tuple[float, ...]
    scratch_count: int
    steps: tuple[Step, ...]
    result: int


def compile_expression(expression: Expression, bands_by_name: Mapping[str, int]) -> Program:
    """The program that computes the expression from the bands that its names stand for."""
    bands = tuple(sorted({bands_by_name[name] for name in names(expression)}))
    compiler = _Compiler(
        band_registers={
            name: bands.index(number) for name, number in bands_by_name.items() if number in bands
        },
        constants=tuple(dict.fromkeys(_constants(expression))),
        band_count=len(bands),
    )
    result = compiler.visit(expression, slot=0)
    return Program(bands, compiler.constants, compiler.scratch_count, tuple(compiler.steps), result)


def _constants(expression: Expression) -> list[float]:
    match expression:
        case Number(value):
            return [value]
        case Negation(operand):
            return _constants(operand)
        case Operation(_, left, right):
            return _constants(left) + _constants(right)
        case _:
            return []


class _Compiler:
    """Allocates scratch registers by depth: a node's result goes to the first that its parent leaves free."""

    def __init__(
        self, *, band_registers: Mapping[str, int], constants: tuple[float, ...], band_count: int
    ) -> None:
        self.constants = constants
        self.steps: list[Step] = []
        self.scratch_count = 0
        self._band_registers = band_registers
        self._first_constant = band_count
        self._first_scratch = band_count + len(constants)

    def visit(self, node: Expression, *, slot: int) -> int:
        match node:
            case Name(text):
                return self._band_registers[text]
            case Number(value):
                return self._first_constant + self.constants.index(value)
            case Negation(operand):
                source = self.visit(operand, slot=slot)
                return self._emit("negate", source, source, slot)
            case Operation(operator, left, right):
                first = self.visit(left, slot=slot)
                in_scratch = first >= self._first_scratch
                second = self.visit(right, slot=slot + 1 if in_scratch else slot)
                return self._emit(operator, first, second, slot)

    def _emit(self, opcode: Opcode, left: int, right: int, slot: int) -> int:
        self.scratch_count = max(self.scratch_count, slot + 1)
        out = self._first_scratch + slot
        self.steps.append(Step(opcode, left, right, out))
        return out

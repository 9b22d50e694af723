"""Compiler of formulas to a flat list of steps over numbered registers, run for every chunk of pixels.

Registers are numbered consecutively: first the bands, then the constants, then scratch. What a formula repeats is
computed once, and a scratch register is used again as soon as its value isn't needed any more.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aerotask.raster.expression.syntax import (
    Call,
    Expression,
    Function,
    Name,
    Negation,
    Number,
    Operation,
    Operator,
    names,
    operands,
)

Opcode = Operator | Function | Literal["negate"]


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on the values of registers."""

    opcode: Opcode
    operands: tuple[int, ...]
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
    numbering = _Numbering(bands_by_name)
    result = numbering.number_of(expression)
    return _allocate(numbering, result, tuple(sorted({bands_by_name[name] for name in names(expression)})))


@dataclass(frozen=True, slots=True)
class _Operation:
    """Operation on values, by their numbers."""

    opcode: Opcode
    operands: tuple[int, ...]


_Value = float | tuple[Literal["band"], int] | _Operation


class _Numbering:
    """Numbers of the distinct values of an expression; operands have lower numbers than what they are part of."""

    def __init__(self, bands_by_name: Mapping[str, int]) -> None:
        self.values: list[_Value] = []
        self._bands_by_name = bands_by_name
        self._numbers: dict[_Value, int] = {}

    def number_of(self, node: Expression) -> int:
        match node:
            case Name(text):
                return self._add(("band", self._bands_by_name[text]))
            case Number(value):
                return self._add(value)
            case Negation():
                return self._operation("negate", node)
            case Operation("^", base, Number(2)):
                # Much faster than a power, and as exact.
                return self._add(_Operation("*", (self.number_of(base),) * 2))
            case Operation("^", base, Number(0.5)):
                return self._add(_Operation("sqrt", (self.number_of(base),)))
            case Operation(operator, _, _):
                return self._operation(operator, node)
            case Call("min" | "max" as function, arguments):
                numbers = [self.number_of(argument) for argument in arguments]
                joined = numbers[0]
                for number in numbers[1:]:
                    joined = self._add(_Operation(function, (joined, number)))
                return joined
            case Call(function, _):
                return self._operation(function, node)

    def _operation(self, opcode: Opcode, node: Expression) -> int:
        return self._add(_Operation(opcode, tuple(self.number_of(operand) for operand in operands(node))))

    def _add(self, value: _Value) -> int:
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


def _allocate(numbering: _Numbering, result: int, bands: tuple[int, ...]) -> Program:
    """The program with a register for each value, the lowest that is free."""
    values = numbering.values
    constants = tuple(value for value in values if isinstance(value, float))
    pending = Counter(
        operand for value in values if isinstance(value, _Operation) for operand in value.operands
    )
    first_scratch = len(bands) + len(constants)
    registers: dict[int, int] = {}
    free: list[int] = []
    scratch_count = 0
    steps: list[Step] = []
    for number, value in enumerate(values):
        if isinstance(value, float):
            registers[number] = len(bands) + constants.index(value)
        elif not isinstance(value, _Operation):
            registers[number] = bands.index(value[1])
        else:
            sources = tuple(registers[operand] for operand in value.operands)
            for operand in value.operands:
                pending[operand] -= 1
                if not pending[operand] and registers[operand] >= first_scratch:
                    heapq.heappush(free, registers[operand])
            if not free:
                heapq.heappush(free, first_scratch + scratch_count)
                scratch_count += 1
            registers[number] = heapq.heappop(free)
            steps.append(Step(value.opcode, sources, registers[number]))
    return Program(bands, constants, scratch_count, tuple(steps), registers[result])

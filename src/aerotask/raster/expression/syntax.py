"""Syntax tree of formulas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Operator = Literal["+", "-", "*", "/", "^", "<", "<=", ">", ">=", "==", "!="]
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
"""Operators whose result is 1 (true) or 0 (false)."""

Function = Literal["sqrt", "abs", "min", "max", "log", "log10", "exp", "where"]
ARGUMENTS: Mapping[Function, tuple[int, int]] = {
    "sqrt": (1, 1),
    "abs": (1, 1),
    "min": (2, 16),
    "max": (2, 16),
    "log": (1, 1),
    "log10": (1, 1),
    "exp": (1, 1),
    "where": (3, 3),
}
"""The fewest and the most arguments of each function."""


@dataclass(frozen=True, slots=True)
class Number:
    """Constant, finite and not negative (a minus sign is a `Negation`)."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """Name of a band, as written."""

    text: str


@dataclass(frozen=True, slots=True)
class Negation:
    """Operand with a minus sign."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Operation:
    """Two operands joined by an operator."""

    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Call:
    """Function applied to its arguments."""

    function: Function
    arguments: tuple[Expression, ...]


Expression: TypeAlias = Number | Name | Negation | Operation | Call


def names(expression: Expression) -> Iterator[str]:
    """Every name in the expression, from left to right, repeated as often as it is written."""
    match expression:
        case Name(text):
            yield text
        case Number():
            return
        case _:
            for operand in operands(expression):
                yield from names(operand)


def operands(expression: Expression) -> tuple[Expression, ...]:
    """The expressions that the outermost operation takes; none for a number or a name."""
    match expression:
        case Negation(operand):
            return (operand,)
        case Operation(_, left, right):
            return left, right
        case Call(_, arguments):
            return arguments
        case _:
            return ()


def substitute(expression: Expression, meanings: Mapping[str, Expression]) -> Expression:
    """The expression with each name in `meanings` replaced by what it stands for."""
    match expression:
        case Name(text):
            return meanings.get(text, expression)
        case Negation(operand):
            return Negation(substitute(operand, meanings))
        case Operation(operator, left, right):
            return Operation(operator, substitute(left, meanings), substitute(right, meanings))
        case Call(function, arguments):
            return Call(function, tuple(substitute(argument, meanings) for argument in arguments))
        case _:
            return expression


def to_text(expression: Expression) -> str:
    """Text that parses to the same expression, with all brackets."""
    match expression:
        case Number(value):
            return repr(value)
        case Name(text):
            return text if text.isidentifier() else f'"{text}"'
        case Negation(operand):
            return f"(-{to_text(operand)})"
        case Operation(operator, left, right):
            return f"({to_text(left)} {operator} {to_text(right)})"
        case Call(function, arguments):
            return f"{function}({', '.join(map(to_text, arguments))})"

"""Parser of arithmetic over bands to a syntax tree; the text is never evaluated as code.

    sum    = term {("+" | "-") term}
    term   = factor {("*" | "/") factor}
    factor = ("-" | "+") factor | power
    power  = atom [("^" | "**") factor]
    atom   = number | name | "(" sum ")"

As in Python and in mathematics, `-a^b` is `-(a^b)` and `a^b^c` is `a^(b^c)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from aerotask.domain.errors import InvalidInput

MAX_CHARS = 512
MAX_NESTING = 32

Operator = Literal["+", "-", "*", "/", "^"]


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


Expression: TypeAlias = Number | Name | Negation | Operation

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9]*)"
    r"|(?P<sign>\*\*|[-+*/^()]))"
)
_END = ("end", "")


def parse(text: str) -> Expression:
    """Parse `text`.

    Raises:
        InvalidInput: it is no expression, or one that is too long or too deeply nested (`invalid-formula`).
    """
    if len(text) > MAX_CHARS:
        raise _invalid(f"it is longer than {MAX_CHARS} characters")
    parser = _Parser(text)
    expression = parser.sum(depth=0)
    parser.expect_end()
    return expression


def names(expression: Expression) -> Iterator[str]:
    """Every band name in the expression, from left to right, repeated as often as it is written."""
    match expression:
        case Name(text):
            yield text
        case Negation(operand):
            yield from names(operand)
        case Operation(_, left, right):
            yield from names(left)
            yield from names(right)


def to_text(expression: Expression) -> str:
    """Text that parses to the same expression, with all brackets."""
    match expression:
        case Number(value):
            return repr(value)
        case Name(text):
            return text
        case Negation(operand):
            return f"(-{to_text(operand)})"
        case Operation(operator, left, right):
            return f"({to_text(left)} {operator} {to_text(right)})"


class _Parser:
    """Recursive descent over one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._kind, self._lexeme = _END
        self._advance()

    def sum(self, depth: int) -> Expression:
        left = self._term(depth)
        while self._lexeme in {"+", "-"}:
            operator = self._operator()
            left = Operation(operator, left, self._term(depth))
        return left

    def expect_end(self) -> None:
        if self._kind != "end":
            raise self._unexpected()

    def _term(self, depth: int) -> Expression:
        left = self._factor(depth)
        while self._lexeme in {"*", "/"}:
            operator = self._operator()
            left = Operation(operator, left, self._factor(depth))
        return left

    def _factor(self, depth: int) -> Expression:
        if depth > MAX_NESTING:
            raise _invalid(f"it is nested more than {MAX_NESTING} levels deep")
        if self._lexeme in {"-", "+"}:
            negative = self._operator() == "-"
            operand = self._factor(depth + 1)
            return Negation(operand) if negative else operand
        return self._power(depth)

    def _power(self, depth: int) -> Expression:
        base = self._atom(depth)
        if self._lexeme not in {"^", "**"}:
            return base
        self._advance()
        return Operation("^", base, self._factor(depth + 1))

    def _atom(self, depth: int) -> Expression:
        kind, lexeme = self._kind, self._lexeme
        if kind not in {"number", "name"} and lexeme != "(":
            raise self._unexpected()
        self._advance()
        if kind == "number":
            return self._number(lexeme)
        if kind == "name":
            return Name(lexeme)
        inner = self.sum(depth + 1)
        if self._lexeme != ")":
            raise self._unexpected(", where a closing bracket is missing")
        self._advance()
        return inner

    @staticmethod
    def _number(digits: str) -> Number:
        value = float(digits)
        if value == float("inf"):
            raise _invalid(f"the number {digits} is too large")
        return Number(value)

    def _operator(self) -> Operator:
        operator = cast("Operator", self._lexeme)
        self._advance()
        return operator

    def _advance(self) -> None:
        if not self._text[self._position :].strip():
            self._kind, self._lexeme = _END
            return
        found = _TOKEN.match(self._text, self._position)
        if found is None or found.lastgroup is None:
            raise _invalid(f"'{self._text[self._position :].strip()[0]}' is not allowed")
        self._position = found.end()
        self._kind, self._lexeme = found.lastgroup, found[found.lastgroup]

    def _unexpected(self, hint: str = "") -> InvalidInput:
        if self._kind == "end":
            return _invalid(f"it ends too early{hint}")
        return _invalid(
            f"'{self._lexeme}' is not expected at character {self._position - len(self._lexeme) + 1}{hint}"
        )


def _invalid(fault: str) -> InvalidInput:
    return InvalidInput(
        f"The formula can't be read: {fault}. Write arithmetic over bands, such as '(N-R)/(N+R)' or 'b4/b1'.",
        code="invalid-formula",
    )

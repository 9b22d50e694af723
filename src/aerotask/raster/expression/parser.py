"""Parser of arithmetic over bands to a syntax tree; the text is never evaluated as code.

    formula    = [(name | quoted) "="] comparison
    comparison = sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum        = term {("+" | "-") term}
    term       = factor {("*" | "/" | implied) factor}
    factor     = ("-" | "+") factor | power
    power      = atom [("^" | "**") factor]
    atom       = number | name | quoted | function "(" comparison {"," comparison} ")" | "(" comparison ")"

As in Python and in mathematics, `-a^b` is `-(a^b)` and `a^b^c` is `a^(b^c)`.

Multiplication is implied between a number or a closing bracket and a following name or opening bracket: `2G`,
`1.5(N-R)`, `(N-R)(N+R)`. Two names side by side are never multiplied, since `NR` could be the name of something. After a division it
is refused: `1/2G` could be either `(1/2)*G` or `1/(2*G)`. An exponent ends before it: `R^2G` is `(R^2)*G`.
"""

from __future__ import annotations

from typing import cast

from aerotask.domain.errors import InvalidInput
from aerotask.domain.suggestions import nearest
from aerotask.raster.expression.syntax import (
    ARGUMENTS,
    COMPARISONS,
    Call,
    Expression,
    Function,
    Name,
    Negation,
    Number,
    Operation,
    Operator,
)
from aerotask.raster.expression.tokens import FormulaToken, invalid, tokenize

MAX_NESTING = 32
ALIASES = {"ln": "log"}
"""Other names of functions."""


def parse(text: str) -> Expression:
    """The expression in `text`.

    Raises:
        InvalidInput: it is no expression, or one that is too long or too deeply nested (`invalid-formula`).
    """
    return _parse_all(tokenize(text))


def parse_labelled(text: str) -> tuple[FormulaToken | None, Expression]:
    """The expression in `text`, and the name before its `=`, if there is one: `NDVI=(N-R)/(N+R)`.

    Raises:
        InvalidInput: as in `parse`.
    """
    tokens = tokenize(text)
    if len(tokens) > 2 and tokens[0].kind in {"name", "quoted"} and tokens[1].sign == "=":
        return tokens[0], _parse_all(tokens[2:])
    return None, _parse_all(tokens)


def _parse_all(tokens: list[FormulaToken]) -> Expression:
    parser = _Parser(tokens)
    expression = parser.comparison(depth=0)
    parser.expect_end()
    return expression


class _Parser:
    """Recursive descent over one token of look-ahead."""

    def __init__(self, tokens: list[FormulaToken]) -> None:
        self._tokens = tokens
        self._index = 0

    def comparison(self, depth: int) -> Expression:
        left = self._sum(depth)
        if self._next.text not in COMPARISONS:
            return left
        operator = self._operator()
        right = self._sum(depth)
        if self._next.sign in COMPARISONS:
            raise self._unexpected("; join two comparisons by '*', as in '(0<N)*(N<1)'")
        return Operation(operator, left, right)

    def expect_end(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected(self._hint())

    @property
    def _next(self) -> FormulaToken:
        return self._tokens[self._index]

    @property
    def _last(self) -> FormulaToken | None:
        return self._tokens[self._index - 1] if self._index else None

    def _sum(self, depth: int) -> Expression:
        left = self._term(depth)
        while self._next.sign in {"+", "-"}:
            operator = self._operator()
            left = Operation(operator, left, self._term(depth))
        return left

    def _term(self, depth: int) -> Expression:
        left = self._factor(depth)
        divided = False
        while True:
            if self._next.sign in {"*", "/"}:
                operator = self._operator()
                divided = operator == "/"
            elif not self._multiplies_silently():
                return left
            elif divided:
                raise self._unexpected(
                    " without a sign after a division, which can be read in two ways; write '1/(2*G)' or '1/2*G'"
                )
            else:
                operator = "*"
            left = Operation(operator, left, self._factor(depth))

    def _multiplies_silently(self) -> bool:
        """Whether the next token follows a number or a bracket as `G` follows 2 in `2G`."""
        ended = self._last is not None and (self._last.kind == "number" or self._last.sign == ")")
        return ended and (self._next.kind in {"name", "quoted"} or self._next.sign == "(")

    def _factor(self, depth: int) -> Expression:
        if depth > MAX_NESTING:
            raise invalid(f"it is nested more than {MAX_NESTING} levels deep")
        if self._next.sign in {"-", "+"}:
            negative = self._operator() == "-"
            operand = self._factor(depth + 1)
            return Negation(operand) if negative else operand
        return self._power(depth)

    def _power(self, depth: int) -> Expression:
        base = self._atom(depth)
        if self._next.sign != "^":
            return base
        self._advance()
        return Operation("^", base, self._factor(depth + 1))

    def _atom(self, depth: int) -> Expression:
        token = self._next
        if token.kind not in {"number", "name", "quoted"} and token.sign != "(":
            raise self._unexpected(self._hint())
        self._advance()
        if token.kind == "number":
            return _number(token)
        if token.kind == "name" and self._next.sign == "(":
            return self._call(token, depth)
        if token.kind in {"name", "quoted"}:
            return Name(token.text)
        inner = self.comparison(depth + 1)
        self._close()
        return inner

    def _call(self, name: FormulaToken, depth: int) -> Expression:
        function = _function(name)
        self._advance()
        arguments = [self.comparison(depth + 1)]
        while self._next.sign == ",":
            self._advance()
            arguments.append(self.comparison(depth + 1))
        self._close()
        fewest, most = ARGUMENTS[function]
        if not fewest <= len(arguments) <= most:
            needed = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise invalid(
                f"{name.written} at character {name.start + 1} takes {needed} argument(s), not {len(arguments)}; commas "
                "separate them, and decimals are written with a point"
            )
        return Call(function, tuple(arguments))

    def _close(self) -> None:
        if self._next.sign != ")":
            raise self._unexpected(", where a closing bracket is missing" + self._hint())
        self._advance()

    def _operator(self) -> Operator:
        operator = cast("Operator", self._next.text)
        self._advance()
        return operator

    def _advance(self) -> None:
        self._index += 1

    def _hint(self) -> str:
        """Advice on the next token, by what the writer probably meant; empty if that isn't known."""
        token, last = self._next, self._last
        if token.sign == "=":
            return "; '==' compares, and a name with '=' can only begin the formula"
        if token.sign == ",":
            return "; decimals are written with a point"
        ended = last is not None and (last.kind in {"number", "name", "quoted"} or last.sign == ")")
        if last and ended and (token.kind in {"number", "name", "quoted"} or token.sign == "("):
            return f"; write '{last.written}*{token.written}' to multiply"
        return ""

    def _unexpected(self, hint: str) -> InvalidInput:
        if self._next.kind == "end":
            return invalid(f"it ends too early{hint}")
        return invalid(f"'{self._next.written}' is not expected at character {self._next.start + 1}{hint}")


def _number(token: FormulaToken) -> Number:
    value = float(token.text)
    if value == float("inf"):
        raise invalid(f"the number {token.text} is too large")
    return Number(value)


def _function(name: FormulaToken) -> Function:
    lower = name.text.lower()
    known = ALIASES.get(lower, lower)
    if known not in ARGUMENTS:
        meant = nearest(lower, [*ARGUMENTS, *ALIASES])
        advice = f"did you mean {meant}(…)?" if meant else f"write '{name.written}*(…)' to multiply."
        raise invalid(
            f"'{name.written}' at character {name.start + 1} is no function; {advice} "
            f"Functions are {', '.join(ARGUMENTS)}"
        )
    return cast("Function", known)

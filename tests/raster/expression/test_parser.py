"""Parser of formulas: precedence, notation and errors."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerotask.domain.errors import InvalidInput
from aerotask.raster.expression.parser import (
    MAX_CHARS,
    Expression,
    Name,
    Negation,
    Number,
    Operation,
    names,
    parse,
    to_text,
)

leaves = st.one_of(
    st.floats(min_value=0, allow_infinity=False, allow_nan=False).map(Number),
    st.sampled_from(["R", "g", "Re", "b12", "T"]).map(Name),
)


def grown(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    operators = st.sampled_from(["+", "-", "*", "/", "^"])
    return st.one_of(children.map(Negation), st.builds(Operation, operators, children, children))


expressions = st.recursive(leaves, grown, max_leaves=12)


def test_multiplication_binds_closer_than_addition() -> None:
    assert parse("1+2*3") == Operation("+", Number(1), Operation("*", Number(2), Number(3)))


def test_operators_of_equal_precedence_are_left_associative() -> None:
    assert parse("8-4-2") == Operation("-", Operation("-", Number(8), Number(4)), Number(2))
    assert parse("8/4*2") == Operation("*", Operation("/", Number(8), Number(4)), Number(2))


def test_powers_are_right_associative_and_bind_closer_than_a_sign() -> None:
    assert parse("2^3^4") == Operation("^", Number(2), Operation("^", Number(3), Number(4)))
    assert parse("-R^2") == Negation(Operation("^", Name("R"), Number(2)))
    assert parse("R^-0.5") == Operation("^", Name("R"), Negation(Number(0.5)))


def test_two_stars_are_a_power_too() -> None:
    assert parse("R**2") == parse("R^2")


def test_redundant_brackets_spaces_and_plus_signs_have_no_effect() -> None:
    assert parse(" ( N - R ) / ( +N + R )\t") == parse("(N-R)/(N+R)")


def test_numbers_are_read_in_all_usual_forms() -> None:
    assert [parse(text) for text in ("2", "2.", ".5", "1.5e3", "2E-2")] == [
        Number(2.0),
        Number(2.0),
        Number(0.5),
        Number(1500.0),
        Number(0.02),
    ]


def test_names_are_listed_from_left_to_right() -> None:
    assert list(names(parse("(N-Re)/(N+b3)"))) == ["N", "Re", "N", "b3"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "ends too early"),
        ("(N-R", "a closing bracket is missing"),
        ("N-R)", "')' is not expected at character 4"),
        ("N R", "'R' is not expected at character 3"),
        ("N*/R", "'/' is not expected at character 3"),
        ("2N", "'N' is not expected"),
        ("N-", "ends too early"),
        ("N%R", "'%' is not allowed"),
        ("__import__('os')", "'_' is not allowed"),
        ("N;R", "';' is not allowed"),
        ("1e999*N", "too large"),
    ],
)
def test_an_error_names_its_position(text: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match="can't be read") as caught:
        parse(text)
    assert fault in caught.value.message
    assert caught.value.code == "invalid-formula"


def test_a_formula_has_a_maximum_length() -> None:
    with pytest.raises(InvalidInput, match="longer than 512 characters"):
        parse("N+" * MAX_CHARS + "N")


@pytest.mark.parametrize("text", ["(" * 40 + "N" + ")" * 40, "-" * 40 + "N", "N^" * 40 + "N"])
def test_a_formula_has_a_maximum_depth(text: str) -> None:
    with pytest.raises(InvalidInput, match="nested more than 32 levels deep"):
        parse(text)


def test_a_long_chain_is_not_deep() -> None:
    assert len(list(names(parse("+".join(["N"] * 250))))) == 250


@settings(deadline=None)
@given(expressions)
def test_the_text_of_an_expression_parses_to_the_same(expression: Expression) -> None:
    text = to_text(expression)
    if len(text) <= MAX_CHARS:
        assert parse(text) == expression


@settings(deadline=None)
@given(st.text(alphabet="NRGBe0123456789.+-*/^() \x00é", max_size=60))
def test_any_text_is_either_a_formula_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        expression = parse(text)
        assert parse(to_text(expression)) == expression

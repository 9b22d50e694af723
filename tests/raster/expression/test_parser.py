"""Parser of formulas: precedence, notation and errors."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerotask.domain.errors import InvalidInput
from aerotask.raster.expression.parser import parse, parse_labelled
from aerotask.raster.expression.syntax import (
    Call,
    Expression,
    Name,
    Negation,
    Number,
    Operation,
    names,
    to_text,
)
from aerotask.raster.expression.tokens import MAX_CHARS

leaves = st.one_of(
    st.floats(min_value=0, allow_infinity=False, allow_nan=False).map(Number),
    st.sampled_from(["R", "g", "Re", "b12", "T", "red_edge", "x@4", "Near infrared"]).map(Name),
)


def grown(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    operators = st.sampled_from(["+", "-", "*", "/", "^", "<", "<=", ">", ">=", "==", "!="])
    return st.one_of(
        children.map(Negation),
        st.builds(Operation, operators, children, children),
        st.builds(Call, st.sampled_from(["sqrt", "abs", "log", "log10", "exp"]), st.tuples(children)),
        st.builds(
            Call, st.sampled_from(["min", "max"]), st.lists(children, min_size=2, max_size=3).map(tuple)
        ),
        st.builds(Call, st.just("where"), st.tuples(children, children, children)),
    )


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
    ("text", "plain"),
    [
        ("(N−R)÷(N+R)", "(N-R)/(N+R)"),
        ("1.5×(N–R)", "1.5*(N-R)"),
        ("2·G−(R+B)", "2*G-(R+B)"),
        ("2G-(R+B)", "2*G-(R+B)"),
        ("1.5(N-R)/(N+R+0.5)", "1.5*(N-R)/(N+R+0.5)"),
        ("(N-R)(N+R)", "(N-R)*(N+R)"),
        ("2 G", "2*G"),
        ("2b4", "2*b4"),
        ("2exp(N)", "2*exp(N)"),
        ("2e1N", "20*N"),
        ("-2G", "(-2)*G"),
        ("2^3G", "(2^3)*G"),
        ("R²", "R^2"),
        ("R³G²", "(R^3)*G^2"),
        ("G^2(N-R)", "G^2*(N-R)"),
        ("N/2*3G", "N/2*3*G"),
        ("[N-R]/[N+R]", "(N-R)/(N+R)"),
        ("where(N≥R, 1, 0)", "where(N>=R, 1, 0)"),
        ("N ≠ R", "N != R"),
        ("N <> R", "N != R"),
        ("N\u00a0-\u2009R", "N-R"),
        ("ln(N)", "log(N)"),
        ("SQRT(N)", "sqrt(N)"),
        ("“x@4”+x@1", '"x@4"+"x@1"'),
    ],
)
def test_formulas_are_read_as_people_write_them(text: str, plain: str) -> None:
    assert parse(text) == parse(plain)


def test_comparisons_bind_less_than_sums() -> None:
    assert parse("N+1>2*R") == Operation(
        ">", Operation("+", Name("N"), Number(1)), Operation("*", Number(2), Name("R"))
    )


def test_functions_take_expressions() -> None:
    assert parse("max(N, R-1, 0)") == Call(
        "max", (Name("N"), Operation("-", Name("R"), Number(1)), Number(0))
    )


def test_a_name_before_an_equals_sign_is_a_label() -> None:
    label, expression = parse_labelled("NDVI = (N-R)/(N+R)")
    assert label
    assert (label.text, expression) == ("NDVI", parse("(N-R)/(N+R)"))
    assert parse_labelled("N == R") == (None, Operation("==", Name("N"), Name("R")))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "ends too early"),
        ("(N-R", "a closing bracket is missing"),
        ("N-R)", "')' is not expected at character 4"),
        ("N R", "'R' is not expected at character 3; write 'N*R' to multiply"),
        ("(N-R)2", "'2' is not expected at character 6; write ')*2' to multiply"),
        ("1/2G", "'G' is not expected at character 4 without a sign after a division"),
        ("(N-R)/(N+R)(1.5)", "write '1/(2*G)' or '1/2*G'"),
        ("1,5*N", "',' is not expected at character 2; decimals are written with a point"),
        ("0<N<1", "'<' is not expected at character 4; join two comparisons by '*'"),
        (
            "where(N=R, 1, 0)",
            "'=' is not expected at character 8, where a closing bracket is missing; '==' compares",
        ),
        ("where(N>R, 1)", "where at character 1 takes 3 argument(s), not 2"),
        ("sqrt(1,5)", "commas separate them, and decimals are written with a point"),
        ("2+sqr(N)", "'sqr' at character 3 is no function; did you mean sqrt(…)?"),
        ("N(R+1)", "'N' at character 1 is no function; write 'N*(…)' to multiply"),
        ('"red edge', "the quotation mark at character 1 is not closed"),
        ("√(N)", "write sqrt(…)"),
        ("N*/R", "'/' is not expected at character 3"),
        ("N-", "ends too early"),
        ("N%R", "'%' is not allowed"),
        ("__import__('os')", "is not allowed at character 12; write names in"),
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


@pytest.mark.parametrize(
    "text", ["(" * 40 + "N" + ")" * 40, "-" * 40 + "N", "N^" * 40 + "N", "abs(" * 40 + "N" + ")" * 40]
)
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
@given(st.text(alphabet='NRGBe0123456789.+-*/^()<>=!,²−×"@_ \x00é', max_size=60))
def test_any_text_is_either_a_formula_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        expression = parse(text)
        assert parse(to_text(expression)) == expression

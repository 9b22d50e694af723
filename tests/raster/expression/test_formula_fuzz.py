"""Fuzzing of formulas and band filters: any text is computed or refused, and what is computed is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aerotask.domain.errors import InvalidInput
from aerotask.raster.bands import parse_filter
from aerotask.raster.expression.compiler import compile_expression
from aerotask.raster.expression.evaluate import Evaluator
from aerotask.raster.expression.indices import index_ids, parse_formula
from aerotask.raster.expression.syntax import names

PIECES = ["+", "-", "*", "/", "^", "(", ")", " ", ".", ",", "b1", "b0", "b99999999999", "R", "N", "Re"]
PIECES += ["1", "0", "1e308", "1e-320", "9" * 400, "__import__", "os.system", "[0]", "lambda:0", "NaN"]
PIECES += ["inf", "\0", "\u202e", "é", "１", "٣", "²", ";", "'", '"', "{", "}", "\\", "\n", "%s", "${x}"]
PIECES += [
    "−",
    "×",
    "÷",
    "<",
    ">=",
    "==",
    "=",
    "where(",
    "min(",
    "sqrt(",
    "log(",
    "exp(",
    "nir",
    '"x@4"',
    "x@4",
]
PIECES += list(index_ids())
typed = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=24).map("".join))


def compute(text: str, pixels: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Values and flags of a formula's pixels; names that aren't in `pixels` stand for its first band."""
    formula = parse_formula(text)
    numbers = {name: at for at, name in enumerate(pixels, start=1)}
    by_name = {name: numbers.get(name, 1) for name in names(formula.expression)}
    program = compile_expression(formula.expression, by_name)
    planes = [list(pixels.values())[band - 1].astype(np.float32) for band in program.bands]
    valid = np.ones(planes[0].size, np.bool_)
    with np.errstate(all="ignore"):
        values = Evaluator(program, chunk_px=valid.size)(planes, valid)
    return values, valid


@settings(max_examples=400, deadline=None, derandomize=True)
@example("(" * 500)
@example("-" * 512)
@example("1" + "^9" * 200)
@example("b1" + "/0" * 200)
@example("N" + "²" * 500)
@example("2(N)" * 128)
@example("abs(" * 128)
@example("EVI+" * 127 + "EVI")
@given(typed)
def test_any_formula_is_computed_or_refused(text: str) -> None:
    try:
        values, valid = compute(text, {"b1": np.array([0, 1, 65535, -1])})
    except InvalidInput:
        return
    assert values.shape == (4,)
    assert np.isfinite(values[valid]).all()


ROUNDING = 2.0**-22
"""Twice the rounding of float32 to either side, since powers and logarithms aren't rounded exactly."""
JUDGED = (1e-30, 1e30)
"""Results beyond are near to the limits of float32, where it may have a value or none."""
PIXELS = {
    "R": [0, 1, 2, 3, 0.5, 100, 65535, 0.25],
    "G": [0, -1, 2, 1, 7, 100, 3, 1e-11],
    "N": [0, 1, 3, -2, 0.125, 300, 65535, 3e-11],
    "Re": [1, 1, 1, 0, 9, 250, 12, 0.75],
}
SPELLINGS = {
    "R": ["R", "red", "b1"],
    "G": ["g", "green"],
    "N": ["NIR", "n", '"x@3"'],
    "Re": ["red_edge", "re"],
}
SPELLED = {name.strip('"'): role for role, spellings in SPELLINGS.items() for name in spellings}


@dataclass(frozen=True)
class Written:
    """A formula as somebody writes it, its values in float64, and how far from them float32 may be.

    NaN stands for no value, and an infinite error for a pixel in which rounding decides.
    """

    text: str
    binding: int
    """0 for a comparison, 1 for a sum, 2 for a product, 3 for a power or a sign, 4 for what needs no brackets."""
    values: np.ndarray
    errors: np.ndarray

    def within(self, binding: int) -> str:
        return self.text if self.binding >= binding else f"({self.text})"


@np.errstate(all="ignore")
def written(text: str, binding: int, values: np.ndarray, errors: np.ndarray) -> Written:
    """The formula with the rounding of its last operation added."""
    exact = (errors == 0) & (values.astype(np.float32) == values)
    size = np.abs(values)
    undecided = ~np.isfinite(errors) | (size > JUDGED[1]) | ((size < JUDGED[0]) & (size > 0))
    errors = np.where(exact | np.isnan(values), errors, errors + size * ROUNDING)
    return Written(text, binding, values, np.where(undecided, np.inf, errors))


def constant(text: str) -> Written:
    return written(text, 4, np.full(8, float(text)), np.zeros(8))


def band(name: str) -> Written:
    return written(name, 4, np.array(PIXELS[SPELLED[name.strip('"')]], np.float32).astype(float), np.zeros(8))


def negated(a: Written) -> Written:
    return written(f"−{a.within(3)}", 3, -a.values, a.errors)


@np.errstate(all="ignore")
def sum_of(a: Written, b: Written) -> Written:
    return written(f"{a.within(1)} + {b.within(2)}", 1, a.values + b.values, a.errors + b.errors)


@np.errstate(all="ignore")
def difference(a: Written, b: Written) -> Written:
    return written(f"{a.within(1)}−{b.within(2)}", 1, a.values - b.values, a.errors + b.errors)


@np.errstate(all="ignore")
def product(a: Written, b: Written) -> Written:
    left, right = a.within(3), b.within(3)
    silent = (left[-1] == ")" or left[-1].isdigit()) and (right[0].isalpha() or right[0] in '("')
    silent &= not left.lower().endswith(tuple(name for name in SPELLED if name[-1].isdigit()))
    errors = np.abs(a.values) * b.errors + np.abs(b.values) * a.errors + a.errors * b.errors
    return written(f"{left}{'' if silent else '×'}{right}", 2, a.values * b.values, errors)


@np.errstate(all="ignore")
def quotient(a: Written, b: Written) -> Written:
    values = np.where(b.values == 0, np.nan, a.values / b.values)
    size = np.abs(b.values)
    errors = (a.errors + np.abs(values) * b.errors) / (size - b.errors)
    errors = np.where(np.isnan(values), 0, errors)
    return written(
        f"{a.within(2)}÷{b.within(3)}",
        2,
        values,
        np.where((size <= b.errors) & (b.errors > 0), np.inf, errors),
    )


@np.errstate(all="ignore")
def power(a: Written, exponent: float) -> Written:
    values = np.power(a.values, exponent)
    errors = np.abs(exponent) * np.abs(np.power(a.values, exponent - 1)) * a.errors * 2
    errors = np.where(a.errors == 0, 0, errors)
    near_zero = (np.abs(a.values) <= 2 * a.errors) & (a.errors > 0)
    values = np.where(np.isinf(values), np.nan, values)
    text = {2.0: "²", 3.0: "^3", 0.5: "**0.5", -1.0: "^-1"}[exponent]
    return written(f"{a.within(4)}{text}", 3, values, np.where(near_zero, np.inf, errors))


def root(a: Written) -> Written:
    half = power(a, 0.5)
    return Written(f"sqrt({a.text})", 4, half.values, half.errors)


@np.errstate(all="ignore")
def logarithm(a: Written) -> Written:
    near_zero = (np.abs(a.values) <= 2 * a.errors) & (a.errors > 0)
    values = np.where(a.values > 0, np.log(a.values), np.nan)
    errors = np.where(near_zero, np.inf, 2 * a.errors / np.abs(a.values) + (a.errors > 0) * ROUNDING)
    return written(f"ln({a.text})", 4, values, np.where(np.isnan(values) & ~near_zero, 0, errors + ROUNDING))


@np.errstate(all="ignore")
def exponential(a: Written) -> Written:
    values = np.exp(a.values)
    return written(f"exp({a.text})", 4, values, np.where(a.errors < 0.1, 2 * values * a.errors, np.inf))


def absolute(a: Written) -> Written:
    return written(f"abs({a.text})", 4, np.abs(a.values), a.errors)


def least(a: Written, b: Written) -> Written:
    return written(
        f"min({a.text}, {b.text})", 4, np.minimum(a.values, b.values), np.maximum(a.errors, b.errors)
    )


def greatest(a: Written, b: Written) -> Written:
    return written(
        f"MAX({a.text},{b.text})", 4, np.maximum(a.values, b.values), np.maximum(a.errors, b.errors)
    )


@np.errstate(all="ignore")
def comparison(a: Written, sign: str, b: Written) -> Written:
    compare = {"<": np.less, "≤": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal}
    missing = np.isnan(a.values) | np.isnan(b.values)
    values = np.where(missing, np.nan, compare[sign](a.values, b.values).astype(float))
    errors = a.errors + b.errors
    close = (np.abs(a.values - b.values) <= errors) & (errors > 0)
    # A missing value beside one in which rounding decides is missing either way only if it is certain.
    errors = np.where(close | ~np.isfinite(errors), np.inf, 0)
    return written(f"{a.within(1)} {sign} {b.within(1)}", 0, values, errors)


@np.errstate(all="ignore")
def choice(condition: Written, a: Written, b: Written) -> Written:
    taken = np.where(condition.values != 0, a.values, b.values)
    errors = np.where(condition.values != 0, a.errors, b.errors)
    near_zero = (np.abs(condition.values) <= condition.errors) & (condition.errors > 0)
    values = np.where(np.isnan(condition.values), np.nan, taken)
    errors = np.where(np.isnan(condition.values), condition.errors, errors)
    undecided = near_zero | ~np.isfinite(condition.errors)
    return written(
        f"where({condition.text}, {a.text}, {b.text})", 4, values, np.where(undecided, np.inf, errors)
    )


def index(name: str, definition: Written) -> Written:
    return Written(name, 4, definition.values, definition.errors)


R, G, N = band("R"), band("green"), band("n")
INDICES = [
    index("NDVI", quotient(difference(N, R), sum_of(N, R))),
    index("gndvi", quotient(difference(N, G), sum_of(N, G))),
    index("CIgreen", difference(quotient(N, G), constant("1"))),
]
leaves = st.one_of(
    st.sampled_from(["0", "1", "2", "0.5", "1.5", "0.1", "7", "1e3"]).map(constant),
    st.sampled_from([name for spellings in SPELLINGS.values() for name in spellings]).map(band),
    st.sampled_from(INDICES),
)


def grown(children: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    pairs: list[Callable[[Written, Written], Written]] = [
        sum_of,
        difference,
        product,
        quotient,
        least,
        greatest,
    ]
    return st.one_of(
        *(st.builds(each, children, children) for each in pairs),
        *(children.map(each) for each in (negated, root, absolute, logarithm, exponential)),
        st.builds(power, children, st.sampled_from([2.0, 3.0, 0.5, -1.0])),
        st.builds(comparison, children, st.sampled_from(["<", "≤", ">", ">=", "=="]), children),
        st.builds(choice, children, children, children),
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.recursive(leaves, grown, max_leaves=10))
def test_a_formula_has_the_values_of_float64(formula: Written) -> None:
    pixels = {name: np.array(values) for name, values in PIXELS.items()}
    by_spelling = {name: pixels[role] for name, role in SPELLED.items()} | pixels
    try:
        values, valid = compute(formula.text, by_spelling)
    except InvalidInput as refused:
        assert "reads no band" in refused.message or "longer than" in refused.message  # noqa: PT017  one of two
        return
    decided = np.isfinite(formula.errors)
    has_value = np.isfinite(formula.values)
    assert valid[decided].tolist() == has_value[decided].tolist(), formula.text
    judged = decided & has_value
    assert (np.abs(values - formula.values)[judged] <= formula.errors[judged]).all(), formula.text


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from("RGBNe?-_ 0,"), max_size=20).map("".join)))
def test_any_band_filter_is_read_or_refused(text: str) -> None:
    try:
        roles = parse_filter(text)
    except InvalidInput:
        return
    assert roles

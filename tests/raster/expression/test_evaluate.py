"""Compiled programs and their evaluation in float32, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerotask.raster.expression.compiler import Program, Step, compile_expression
from aerotask.raster.expression.evaluate import Evaluator
from aerotask.raster.expression.indices import Formula, parse_formula
from aerotask.raster.expression.parser import Expression, Name, Negation, Number, Operation, parse

BANDS = {"R": 1, "G": 2, "B": 3, "N": 4, "Re": 5, "b1": 1}
PIXEL = {1: 100.0, 2: 200.0, 3: 50.0, 4: 400.0, 5: 300.0}


def evaluate(formula: Formula, pixels: dict[int, Sequence[float]]) -> tuple[list[float], list[bool]]:
    program = compile_expression(formula.expression, BANDS)
    planes = [np.array(pixels[band], np.float32) for band in program.bands]
    valid = np.ones(planes[0].size, np.bool_)
    with np.errstate(all="ignore"):
        run = Evaluator(program, chunk_px=planes[0].size, positive_bands=formula.positive_bands)
        values = run(planes, valid)
    return values.tolist(), valid.tolist()


def value_of(text: str) -> float:
    values, valid = evaluate(parse_formula(text), {band: [value] for band, value in PIXEL.items()})
    assert valid == [True]
    return values[0]


@pytest.mark.parametrize(
    ("index_id", "expected"),
    [
        ("VARI", 0.4),  # 100 / 250
        ("EXG", 250.0),
        ("GLI", 0.4545455),  # 250 / 550
        ("vNDVI", 0.5163),  # 0.5268 · 0.5511 · 6.0231 · 0.2953
        ("NDVI", 0.6),  # 300 / 500
        ("GNDVI", 0.3333333),  # 200 / 600
        ("NDRE", 0.1428571),  # 100 / 700
        ("NDWI", -0.3333333),
        ("NDYI", 0.6),  # 150 / 250
        ("MPRI", 0.3333333),  # 100 / 300
        ("SAVI", 0.8991009),  # 450 / 500.5
        ("OSAVI", 0.5998081),  # 300 / 500.16
        ("EVI", 1.1980831),  # 750 / 626
        ("ARVI", 0.3846154),  # 250 / 650
        ("GRVI", 2.0),
        ("ENDVI", 0.7142857),  # 500 / 700
        ("CELSIUS", 100.0),
        ("KELVIN", 373.15),
    ],
)
def test_each_index_has_the_value_computed_by_hand(index_id: str, expected: float) -> None:
    assert value_of(index_id) == pytest.approx(expected, rel=1e-4 if index_id == "vNDVI" else 1e-6)
    assert value_of(index_id.lower()) == value_of(index_id)


def test_a_program_reuses_scratch_registers() -> None:
    program = compile_expression(parse("(N-R)/(N+R)"), BANDS)
    assert program == Program(
        bands=(1, 4),
        constants=(),
        scratch_count=2,
        steps=(Step("-", 1, 0, 2), Step("+", 1, 0, 3), Step("/", 2, 3, 2)),
        result=2,
    )


def test_a_single_band_needs_no_steps() -> None:
    program = compile_expression(parse("N"), BANDS)
    assert (program.bands, program.steps, program.result) == ((4,), (), 0)


def test_a_denominator_near_zero_leaves_no_value() -> None:
    _, valid = evaluate(parse_formula("N/(R-100)"), {1: [100, 101, 99], 4: [5, 5, 5]})
    assert valid == [False, True, True]


def test_the_bound_for_denominators_is_one_ten_billionth() -> None:
    _, valid = evaluate(parse_formula("N/R"), {1: [0.9e-10, -0.9e-10, 1.1e-10, -1.1e-10], 4: [0, 0, 0, 0]})
    assert valid == [False, False, True, True]


def test_each_division_of_a_formula_is_checked() -> None:
    _, valid = evaluate(parse_formula("1/(1/(N-5)+R)"), {1: [1, 1, 1], 4: [5, 4, 7]})
    assert valid == [False, False, True]  # 1/0; then 1/(-1+1); then fine


def test_a_result_that_is_not_finite_leaves_no_value() -> None:
    _, valid = evaluate(parse_formula("N^0.5+R^200"), {1: [1, 1, 50], 4: [-1, 4, 4]})
    assert valid == [False, True, False]


def test_vndvi_needs_all_its_bands_above_zero() -> None:
    _, valid = evaluate(parse_formula("vndvi"), {1: [1, 0, 1, 1], 2: [1, 1, 0, 1], 3: [1, 1, 1, -1]})
    assert valid == [True, False, False, False]


def test_invalid_pixels_stay_invalid() -> None:
    program = compile_expression(parse("N"), BANDS)
    valid = np.array([False, True])
    Evaluator(program, chunk_px=2)([np.array([1, 1], np.float32)], valid)
    assert valid.tolist() == [False, True]


expressions = st.recursive(
    st.one_of(
        st.floats(min_value=0, max_value=1000, width=32).map(lambda value: Number(float(value))),
        st.sampled_from(sorted(BANDS)).map(Name),
    ),
    lambda children: st.one_of(
        children.map(Negation),
        st.builds(Operation, st.sampled_from(["+", "-", "*", "/", "^"]), children, children),
    ),
    max_leaves=10,
)


def by_definition(node: Expression, pixels: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    match node:
        case Number(value):
            return np.full(4, value, np.float32), np.ones(4, np.bool_)
        case Name(text):
            return pixels[BANDS[text]], np.ones(4, np.bool_)
        case Negation(operand):
            plane, valid = by_definition(operand, pixels)
            return -plane, valid
        case Operation(operator, left, right):
            (a, valid_a), (b, valid_b) = by_definition(left, pixels), by_definition(right, pixels)
            valid = valid_a & valid_b
            if operator == "/":
                valid &= np.abs(b) >= np.float32(1e-10)
            operations = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power}
            return operations[operator](a, b), valid


@settings(deadline=None)
@given(expressions, st.lists(st.floats(-100, 100, width=32), min_size=20, max_size=20))
def test_a_program_computes_what_the_expression_means(expression: Expression, numbers: list[float]) -> None:
    pixels = {band: np.array(numbers[4 * at : 4 * at + 4], np.float32) for at, band in enumerate(PIXEL)}
    with np.errstate(all="ignore"):
        expected, expected_valid = by_definition(expression, pixels)
        program = compile_expression(expression, BANDS)
        valid = np.ones(4, np.bool_)
        values = Evaluator(program, chunk_px=4)([pixels[band] for band in program.bands], valid)
    expected_valid &= np.isfinite(expected)
    assert valid.tolist() == expected_valid.tolist()
    assert np.broadcast_to(values, 4)[valid].tolist() == expected[valid].tolist()

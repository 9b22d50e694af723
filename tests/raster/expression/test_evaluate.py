"""Compiled programs and their evaluation in float32, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from aerotask.raster.expression.compiler import Program, Step, compile_expression
from aerotask.raster.expression.evaluate import Evaluator
from aerotask.raster.expression.indices import Formula, parse_formula
from aerotask.raster.expression.parser import parse

BANDS = {"R": 1, "G": 2, "B": 3, "N": 4, "Re": 5, "S1": 6, "S2": 7, "b1": 1}
PIXEL = {1: 100.0, 2: 200.0, 3: 50.0, 4: 400.0, 5: 300.0, 6: 150.0, 7: 80.0}


def evaluate(formula: Formula, pixels: dict[int, Sequence[float]]) -> tuple[list[float], list[bool]]:
    program = compile_expression(formula.expression, BANDS)
    planes = [np.array(pixels[band], np.float32) for band in program.bands]
    valid = np.ones(planes[0].size, np.bool_)
    with np.errstate(all="ignore"):
        run = Evaluator(program, chunk_px=planes[0].size)
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
        ("MSAVI", 0.7497655),  # (801 - √(801² - 2400)) / 2
        ("MSAVI2", 0.7497655),
        ("CIgreen", 1.0),
        ("CIrededge", 0.3333333),  # 400 / 300 - 1
        ("NDMI", 0.4545455),  # 250 / 550
        ("NBR", 0.6666667),  # 320 / 480
        ("TGI", 12500.0),  # -0.5 · (190 · -100 - 120 · 50)
        ("BAI", 5.8847063e-6),  # 1 / (99.9² + 399.94²)
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
        steps=(Step("-", (1, 0), 2), Step("+", (1, 0), 3), Step("/", (2, 3), 2)),
        result=2,
    )


def test_a_single_band_needs_no_steps() -> None:
    program = compile_expression(parse("N"), BANDS)
    assert (program.bands, program.steps, program.result) == ((4,), (), 0)


def test_a_denominator_near_zero_leaves_no_value() -> None:
    _, valid = evaluate(parse_formula("N/(R-100)"), {1: [100, 101, 99], 4: [5, 5, 5]})
    assert valid == [False, True, True]


def test_reflectances_of_any_size_have_an_index() -> None:
    values, valid = evaluate(
        parse_formula("NDVI"), {1: [1e-11, 1e-30, 0, 1e-40], 4: [3e-11, 3e-30, 0, 1e-40]}
    )
    assert valid == [True, True, False, False]  # below 1.2e-38 float32 has no full precision
    assert values[:2] == pytest.approx([0.5, 0.5])


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


def test_what_a_formula_repeats_is_computed_once() -> None:
    formula = parse_formula("where(NDVI > 0.3, NDVI, (nir-red)/(nir+red)/2)")
    program = compile_expression(formula.expression, {**BANDS, "nir": 4, "red": 1})
    assert [step.opcode for step in program.steps] == ["-", "+", "/", ">", "/", "where"]
    assert program.scratch_count == 3


def test_a_square_and_a_square_root_are_no_powers() -> None:
    program = compile_expression(parse("N^2+R^0.5+G^3"), BANDS)
    assert [step.opcode for step in program.steps] == ["*", "sqrt", "+", "^", "+"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2G", 400.0),
        ("NDVI*100", 60.0),
        ("NDVI=(N-R)/(N+R)", 0.6),
        ("sqrt(N)+abs(R-G)", 120.0),
        ("min(R, G, B)", 50.0),
        ("max(R, G, B, 201)", 201.0),
        ("log(exp(B))", 50.0),
        ("log10(R)", 2.0),
        ("N > R", 1.0),
        ("(N > R)*(B >= 50)*(B <= 50)*(B == 50)*(R != G)", 1.0),
        ("N < R", 0.0),
        ("where(N > R, G, B)", 200.0),
        ("where(N < R, G, B)", 50.0),
        ("where(R, 1, B)", 1.0),
        ("where(N > R, 1, 2)+where(N < R, G*2, G*3)", 601.0),
        ('"x@4"/band_1', 4.0),
        ('red_edge - "Red Edge" + nir', 400.0),
    ],
)
def test_custom_formulas_have_the_value_computed_by_hand(text: str, expected: float) -> None:
    formula = parse_formula(text)
    bands = {**BANDS, "x@4": 4, "band_1": 1, "red_edge": 5, "Red Edge": 5, "nir": 4}
    program = compile_expression(formula.expression, bands)
    planes = [np.array([PIXEL[band]], np.float32) for band in program.bands]
    valid = np.ones(1, np.bool_)
    with np.errstate(all="ignore"):
        value = Evaluator(program, chunk_px=1)(planes, valid)
    assert value.tolist() == pytest.approx([expected], rel=1e-6)
    assert valid.tolist() == [True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("where(R > 0, N/R, 0)", [True, True]),  # the branch that isn't taken may have no value
        ("where(N/R > 0, 1, 0)", [False, True]),  # but a condition without a value gives none
        ("N/R > 0", [False, True]),
        ("(N/R)^0", [False, True]),
        ("min(N/R, 1)", [False, True]),
        ("1/(1/R)", [False, True]),
        ("log(R)", [False, True]),
        ("exp(log(R))", [False, True]),
        ("1/(R^-1)", [False, True]),
        ("sqrt(R-1)", [False, True]),
        ("exp(100*N)", [False, False]),
    ],
)
def test_a_missing_value_passes_through_every_operation_but_where(text: str, expected: list[bool]) -> None:
    _, valid = evaluate(parse_formula(text), {1: [0, 2], 4: [3, 3]})
    assert valid == expected


def test_msavi_keeps_its_digits_for_large_numbers() -> None:
    values, _ = evaluate(parse_formula("MSAVI2"), {1: [20_000], 4: [60_000]})
    assert values == pytest.approx([0.6666648148], rel=1e-6)  # (a - √(a² - 8·40000)) / 2 with a = 120001

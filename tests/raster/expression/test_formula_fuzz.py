"""Fuzzing of formulas and band filters: any text is computed or refused, from the parser to the pixels."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aerotask.domain.errors import InvalidInput
from aerotask.raster.bands import parse_filter
from aerotask.raster.expression.compiler import compile_expression
from aerotask.raster.expression.evaluate import Evaluator
from aerotask.raster.expression.indices import index_ids, parse_formula
from aerotask.raster.expression.parser import names

PIECES = ["+", "-", "*", "/", "^", "(", ")", " ", ".", ",", "b1", "b0", "b99999999999", "R", "N", "Re"]
PIECES += ["1", "0", "1e308", "1e-320", "9" * 400, "__import__", "os.system", "[0]", "lambda:0", "NaN"]
PIECES += ["inf", "\0", "\u202e", "é", "１", "٣", "²", ";", "'", '"', "{", "}", "\\", "\n", "%s", "${x}"]
PIECES += list(index_ids())[:4]
typed = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=24).map("".join))


@settings(max_examples=400, deadline=None, derandomize=True)
@example("(" * 500)
@example("-" * 512)
@example("1" + "^9" * 200)
@example("b1" + "/0" * 200)
@given(typed)
def test_any_formula_is_computed_or_refused(text: str) -> None:
    try:
        formula = parse_formula(text)
    except InvalidInput:
        return
    program = compile_expression(formula.expression, dict.fromkeys(names(formula.expression), 1))
    planes = [np.array([0, 1, 65535, -1], np.float32) for _ in program.bands]
    valid = np.ones(4, np.bool_)
    with np.errstate(all="ignore"):
        values = Evaluator(program, chunk_px=4)(planes, valid)
    assert values.shape == (4,)
    assert np.isfinite(values[valid]).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from("RGBNe?-_ 0,"), max_size=20).map("".join)))
def test_any_band_filter_is_read_or_refused(text: str) -> None:
    try:
        roles = parse_filter(text)
    except InvalidInput:
        return
    assert roles

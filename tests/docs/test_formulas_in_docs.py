"""Formulas in the docs: each is parsed and computed as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from aerotask.raster.bands import MEANINGS, BandRoles
from aerotask.raster.expression.compiler import compile_expression
from aerotask.raster.expression.evaluate import Evaluator
from aerotask.raster.expression.indices import index_ids, parse_formula, resolve_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECTION = re.search(
    r"^## Formulas$.*?(?=^## )",
    (ROOT / "docs" / "tools" / "raster-export.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
ROW = re.compile(r"^\| (?P<first>`[^|]+`) \| (?P<second>[^|]+) \|", re.MULTILINE)
ROLES = BandRoles({role: at for at, role in enumerate(MEANINGS, start=1)}, {})
UNKNOWN = {"EVI2"}
"""Shown in the README as a formula that doesn't exist."""


def rows() -> list[tuple[list[str], str]]:
    """The code in the first column of each row of the section's tables, and the second column."""
    assert SECTION
    return [(re.findall(r"`([^`]+)`", found["first"]), found["second"]) for found in ROW.finditer(SECTION[0])]


def indices() -> dict[str, str]:
    known = set(index_ids())
    return {
        index_id: re.findall(r"`([^`]+)`", second)[0]
        for codes, second in rows()
        if set(codes) <= known
        for index_id in codes
    }


def examples() -> list[str]:
    return [codes[0] for codes, _ in rows() if not set(codes) <= set(index_ids())]


def in_requests() -> list[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    found = re.findall(r'"formula": "((?:[^"\\]|\\.)+)"', text) + re.findall(
        r"[?&]formula=([^&\"\s`]+)", text
    )
    return sorted(set(found) - UNKNOWN)


def values_of(text: str) -> list[float]:
    formula = parse_formula(text)
    program = compile_expression(formula.expression, resolve_names(formula, ROLES, len(MEANINGS)))
    planes = [np.array([0.04, 0.12, 0.3], np.float32) * np.float32(band**0.5) for band in program.bands]
    valid = np.ones(3, np.bool_)
    with np.errstate(all="ignore"):
        values = Evaluator(program, chunk_px=3)(planes, valid)
    assert valid.all()
    return [float(value) for value in values]


def test_the_page_lists_every_index() -> None:
    assert sorted(indices()) == sorted(index_ids())


@pytest.mark.parametrize("index_id", index_ids())
def test_the_expression_of_an_index_computes_it_when_pasted(index_id: str) -> None:
    assert values_of(indices()[index_id]) == pytest.approx(values_of(index_id), rel=1e-5)


@pytest.mark.parametrize("text", [*examples(), *in_requests()])
def test_a_formula_computes_when_pasted(text: str) -> None:
    assert np.isfinite(values_of(text)).all()


def test_the_docs_have_formulas() -> None:
    assert len(examples()) == 10
    assert {"NDVI", "GNDVI"} <= set(in_requests())

"""Similarity transform and robust fit, on points that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerotask.raster.alignment.match.robust import robust_fit
from aerotask.raster.alignment.match.similarity import Similarity, fit_similarity, fit_translation, to_complex

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])
QUARTER_CLOCKWISE = Similarity(-2j, 3 + 1j)


def test_a_similarity_rotates_scales_and_shifts() -> None:
    assert QUARTER_CLOCKWISE.of(SQUARE).tolist() == [[3, 1], [3, -19], [23, -19], [23, 1]]
    assert (QUARTER_CLOCKWISE.scale, QUARTER_CLOCKWISE.rotation_deg) == (2, 90)


numbers = st.floats(-100, 100)
similarities = st.builds(
    lambda a, b, x, y: Similarity(complex(a, b) or 1 + 0j, complex(x, y)),
    st.floats(0.5, 2), st.floats(-2, 2), numbers, numbers,
)  # fmt: skip


@given(similarities)
def test_the_inverse_undoes_the_transform(one: Similarity) -> None:
    assert one.inverse().of(one.of(SQUARE)) == pytest.approx(SQUARE, abs=1e-6)


def test_least_squares_recovers_the_transform() -> None:
    moved = to_complex(QUARTER_CLOCKWISE.of(SQUARE))
    found = fit_similarity(to_complex(SQUARE), moved, np.ones(4))
    assert found.factor == pytest.approx(-2j)
    assert found.shift == pytest.approx(3 + 1j)
    # The mean of (3, 1), (−7, −19), (13, −29), (23, −9), the corners' ways.
    assert fit_translation(to_complex(SQUARE), moved, np.ones(4)).shift == pytest.approx(8 - 14j)


def scattered(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(3).uniform(0, 1000, (count, 2))


def test_outliers_do_not_affect_the_fit() -> None:
    points = scattered(100)
    truth = Similarity(1.01 * np.exp(0.02j), 12 - 7j)
    targets = truth.of(points)
    targets[60:] += np.random.default_rng(4).uniform(-50, 50, (40, 2))
    fit = robust_fit(points, targets, mode="similarity", tolerance=2, unit=1)
    assert fit is not None
    assert fit.transform.factor == pytest.approx(truth.factor, abs=1e-9)
    assert fit.inliers[:60].all()
    assert fit.count < 65


def test_residuals_are_measured_in_units() -> None:
    points = scattered(200)
    noise = np.random.default_rng(5).normal(0, 0.05, (200, 2))
    fit = robust_fit(points, points + noise + (3, 4), mode="translation", tolerance=3, unit=0.5)
    assert fit is not None
    assert fit.transform.shift == pytest.approx(3 + 4j, abs=0.02)
    # √2 · 0.05 of the plane, in units of a half.
    assert fit.rmse == pytest.approx(0.1414, abs=0.01)


@pytest.mark.parametrize("mode", ["similarity", "translation"])
def test_two_pairs_are_too_few_for_a_consensus(mode: str) -> None:
    points = scattered(2)
    assert robust_fit(points, points + 1, mode=mode, tolerance=2, unit=1) is None  # type: ignore[arg-type]
    assert robust_fit(points[:0], points[:0], mode=mode, tolerance=2, unit=1) is None  # type: ignore[arg-type]

"""Halving of tiles of measured values, by hand."""

from typing import Any

import numpy as np
import pytest

from aerotask.raster.halving import halving_of_samples


def halved(rows: list[list[Any]], dtype: str, nodata: float | None = None) -> list[Any]:
    tile = np.array(rows, dtype)[..., np.newaxis]
    result = halving_of_samples(nodata)(tile)
    assert result.dtype == tile.dtype
    return list(result[..., 0].tolist())


def test_whole_numbers_are_rounded_to_the_nearest() -> None:
    assert halved([[1, 2, 65535, 65535], [2, 2, 65535, 65534]], "uint16") == [[2, 65535]]  # 1.75, 65534.75
    assert halved([[-1, -2], [-2, -2]], "int16") == [[-2]]  # -1.75
    assert halved([[2**32 - 1] * 2] * 2, "uint32") == [[2**32 - 1]]


def test_values_of_nodata_do_not_count() -> None:
    assert halved([[0, 9, 0, 0], [0, 0, 0, 0]], "uint16", nodata=0) == [[9, 0]]
    assert halved([[0, 9], [10, 0]], "uint16", nodata=0) == [[10]]  # 9.5
    assert halved([[-10000.0, 0.5], [1.5, -10000.0]], "float32", nodata=-10000) == [[1.0]]
    assert halved([[-10000.0, -10000.0]] * 2, "float32", nodata=-10000) == [[-10000.0]]


def test_nan_does_not_count() -> None:
    assert halved([[np.nan, 1.0], [2.0, np.nan]], "float64") == [[1.5]]
    assert np.isnan(halved([[np.nan] * 2] * 2, "float32")[0][0])


def test_infinities_stay_infinite() -> None:
    assert halved([[np.inf, 1.0], [2.0, 3.0]], "float32") == [[np.inf]]


@pytest.mark.parametrize("nodata", [None, 7.0])
def test_each_band_is_halved_by_itself(nodata: float | None) -> None:
    tile = np.zeros((2, 2, 2), np.uint8)
    tile[..., 1] = 100
    assert halving_of_samples(nodata)(tile).tolist() == [[[0, 100]]]

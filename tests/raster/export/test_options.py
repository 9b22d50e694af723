"""Options of an export, parsed without a raster."""

from __future__ import annotations

import pytest
from tests.raster.rasters import parse_options

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.options import parse_bands, parse_rescale
from aerotask.raster.export.presets import PRESETS, find_preset
from aerotask.raster.expression.indices import ValueRange


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("0,1", (ValueRange(0, 1),)),
        (" -0.5 , 1e3 ", (ValueRange(-0.5, 1000),)),
        ("0,3000;0,2500;10,2000", (ValueRange(0, 3000), ValueRange(0, 2500), ValueRange(10, 2000))),
    ],
)
def test_a_rescale_is_one_pair_or_three(text: str, ranges: tuple[ValueRange, ...]) -> None:
    assert parse_rescale(text) == ranges


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1,2,3",
        "a,b",
        "1;2",
        "0,1;0,1",
        "0,1;0,1;0,1;0,1",
        "0,1;",
        "1,0",
        "1,1",
        "nan,1",
        "0,inf",
        "-inf,0",
        "0,1e39",
        "1,1.00000001",
        "0x1,2",
    ],
)
def test_any_other_rescale_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="can't be used") as caught:
        parse_rescale(text)
    assert caught.value.code == "invalid-rescale"


@pytest.mark.parametrize(
    ("text", "bands"),
    [("3,2,1", (3, 2, 1)), (" 4 , 4 , 1 ", (4, 4, 1)), ("2", (2,)), ("10,11,12", (10, 11, 12))],
)
def test_bands_are_one_or_three_numbers(text: str, bands: tuple[int, ...]) -> None:
    assert parse_bands(text) == bands


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a", "1;2;3", "-1", "1.5", "1,,3", "99999"])
def test_any_other_bands_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="can't be read") as caught:
        parse_bands(text)
    assert caught.value.code == "invalid-bands"


def test_there_is_no_band_zero() -> None:
    with pytest.raises(InvalidInput, match="counted from 1") as caught:
        parse_bands("0,1,2")
    assert caught.value.code == "band-out-of-range"


def test_presets_are_found_in_any_case() -> None:
    assert find_preset("True-Color") is PRESETS["true-color"]
    assert len(PRESETS) == 15


def test_the_error_for_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="There is no preset 'pretty'; there are true-color, ") as caught:
        find_preset("pretty")
    assert caught.value.code == "unknown-preset"


@pytest.mark.parametrize(
    "parameters",
    [
        {"bands": "3,2,1"},
        {"preset": "true-color"},
        {"formula": "NDVI", "colormap": "none"},
        {"bands": "1", "colormap": "none"},
    ],
)
def test_a_palette_is_refused_without_a_colormap(parameters: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="for results with a colormap") as caught:
        parse_options(format="palette", **parameters)
    assert caught.value.code == "palette-impossible"


@pytest.mark.parametrize("parameters", [{"formula": "NDVI"}, {"bands": "1"}, {"preset": "ironbow"}, {}])
def test_a_palette_is_allowed_with_a_colormap(parameters: dict[str, str]) -> None:
    assert parse_options(format="palette", **parameters).format == "palette"

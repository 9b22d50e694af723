"""Export plan: precedence, presets, ranges and warnings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.raster.rasters import parse_options

from aerotask.domain.errors import InvalidInput
from aerotask.raster.export.plan import ExportPlan, make_plan
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.profile import BandProfile, RasterProfile

FIVE = ("red", "green", "blue", "nir", "rededge")


def profile(
    *descriptions: str, dtype: str = "uint16", alpha: bool = False, text: str = "", count: int = 0
) -> RasterProfile:
    bands = [BandProfile(dtype, name, "undefined", None) for name in descriptions]
    bands += [BandProfile(dtype, None, "undefined", None)] * count
    bands += [BandProfile(dtype, None, "alpha", None)] if alpha else []
    return RasterProfile(10, 10, tuple(bands), None, None, (10, 10), (), text)


def plan(described: RasterProfile, **parameters: str) -> ExportPlan:
    return make_plan(parse_options(**parameters), described)


def refused(described: RasterProfile, **parameters: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        plan(described, **parameters)
    return caught.value


def test_an_index_has_its_own_range_and_the_default_colours() -> None:
    found = plan(profile(*FIVE), formula="ndvi")
    assert (found.title, dict(found.names), found.source_bands) == ("NDVI", {"N": 4, "R": 1}, (1, 4))
    assert (found.ranges, found.range_source, found.colormap) == ((ValueRange(-1, 1),), "formula", "rdylgn")
    assert found.reasons == (
        "N is band 4, from the band descriptions.",
        "R is band 1, from the band descriptions.",
    )


def test_the_formula_comes_before_bands_and_preset() -> None:
    found = plan(profile(*FIVE), formula="NDVI", bands="3,2,1", preset="true-color")
    assert found.title == "NDVI"
    assert found.warnings == (
        "'bands' was ignored: the formula comes first.",
        "Preset 'true-color' was ignored: the formula comes first.",
    )


def test_bands_come_before_the_preset() -> None:
    found = plan(profile(*FIVE), bands="5,4,4", preset="ndvi")
    assert (found.title, found.channels, found.source_bands) == ("bands 5, 4, 4", (5, 4, 4), (4, 5))
    assert found.warnings == ("Preset 'ndvi' was ignored: bands named by number come first.",)


def test_without_options_the_first_three_bands_are_shown() -> None:
    found = plan(profile(*FIVE))
    assert (found.formula, found.channels, found.range_source) == (None, (1, 2, 3), "percentiles")
    assert found.ranges is None


def test_alpha_is_not_one_of_the_first_three_bands() -> None:
    assert plan(profile(count=3, alpha=True)).channels == (1, 2, 3)


@pytest.mark.parametrize("described", [profile(count=1), profile(count=2), profile(count=2, alpha=True)])
def test_with_fewer_than_three_bands_the_first_is_shown_in_greys(described: RasterProfile) -> None:
    found = plan(described)
    assert (found.title, dict(found.names), found.colormap) == ("band 1", {"b1": 1}, "grayscale")


def test_a_single_band_is_coloured_like_an_index() -> None:
    found = plan(profile(*FIVE), bands="2", colormap="viridis")
    assert (dict(found.names), found.colormap, found.range_source) == ({"b2": 2}, "viridis", "percentiles")


@pytest.mark.parametrize(
    ("preset", "channels"),
    [("true-color", (1, 2, 3)), ("false-color-ir", (4, 1, 2)), ("red-edge", (4, 5, 1))],
)
def test_a_composite_preset_takes_bands_by_role(preset: str, channels: tuple[int, ...]) -> None:
    assert plan(profile(*FIVE), preset=preset).channels == channels


@pytest.mark.parametrize(
    ("preset", "channels"),
    [
        ("true-color", (4, 3, 2)),
        ("false-color-ir", (8, 4, 3)),
        ("agriculture", (11, 8, 2)),
        ("geology", (11, 12, 4)),
        ("moisture", (8, 11, 3)),
        ("urban", (12, 11, 4)),
        ("red-edge", (8, 5, 4)),
        ("swir-composite", (11, 8, 4)),
    ],
)
def test_a_satellite_has_the_bands_for_every_composite(preset: str, channels: tuple[int, ...]) -> None:
    sentinel = profile(count=12, text="Sentinel-2 level 2A")
    assert plan(sentinel, preset=preset).channels == channels


@pytest.mark.parametrize(
    ("preset", "title"), [("ndvi", "NDVI"), ("ndwi", "NDWI"), ("gndvi", "GNDVI"), ("ndre", "NDRE")]
)
def test_an_index_preset_is_that_index(preset: str, title: str) -> None:
    found = plan(profile(*FIVE), preset=preset)
    assert (found.title, found.ranges, found.colormap) == (title, (ValueRange(-1, 1),), "rdylgn")


@pytest.mark.parametrize("preset", ["ironbow", "whitehot", "blackhot"])
def test_a_thermal_preset_colours_the_thermal_band_or_else_the_first(preset: str) -> None:
    with_thermal = plan(profile("green", "lwir"), preset=preset)
    assert (dict(with_thermal.names), with_thermal.colormap) == ({"b2": 2}, preset)
    assert dict(plan(profile(count=1), preset=preset).names) == {"b1": 1}


def test_a_thermal_preset_keeps_its_colormap() -> None:
    found = plan(profile(count=1), preset="ironbow", colormap="viridis")
    assert found.colormap == "ironbow"
    assert found.warnings == ("The colormap was ignored: preset 'ironbow' has its own.",)


def test_colormap_none_gives_values_instead_of_colours() -> None:
    for parameters in ({"formula": "NDVI"}, {"bands": "3,2,1"}, {"preset": "ironbow"}, {}):
        found = plan(profile(*FIVE), colormap="none", **parameters)
        assert (found.gives_values, found.ranges, found.range_source) == (True, None, "none")


def test_a_rescale_comes_before_the_formulas_own_range() -> None:
    found = plan(profile(*FIVE), formula="NDVI", rescale="0,0.8")
    assert (found.ranges, found.range_source) == ((ValueRange(0, 0.8),), "rescale")


def test_one_rescale_applies_to_all_three_bands() -> None:
    assert plan(profile(*FIVE), bands="3,2,1", rescale="0,9").ranges == (ValueRange(0, 9),) * 3


def test_three_rescales_are_too_many_for_one_value() -> None:
    error = refused(profile(*FIVE), formula="NDVI", rescale="0,1;0,1;0,1")
    assert (error.code, "give one pair" in error.message) == ("invalid-rescale", True)


@pytest.mark.parametrize(
    ("parameters", "warning"),
    [
        (
            {"bandFilter": "RGB", "bands": "1,2,3"},
            "The band filter was ignored: nothing that was chosen refers to bands by their role.",
        ),
        (
            {"bandFilter": "RGB", "formula": "b1/b2"},
            "The band filter was ignored: nothing that was chosen refers to bands by their role.",
        ),
        (
            {"colormap": "viridis", "bands": "1,2,3"},
            "Colormap 'viridis' was ignored: three bands are shown in their own colours.",
        ),
        (
            {"colormap": "none", "rescale": "0,1"},
            "'rescale' was ignored: colormap 'none' gives the values as they are.",
        ),
    ],
)
def test_options_without_effect_are_reported(parameters: dict[str, str], warning: str) -> None:
    assert plan(profile(*FIVE), **parameters).warnings == (warning,)


def test_options_with_an_effect_cause_no_warning() -> None:
    assert (
        plan(profile(*FIVE), formula="NDVI", bandFilter="NGR", rescale="0,1", colormap="viridis").warnings
        == ()
    )
    assert plan(profile(*FIVE), preset="true-color", bandFilter="BGR").warnings == ()


def test_a_file_of_several_pages_causes_a_warning() -> None:
    several = replace(profile(count=1), pages=3)
    assert plan(several).warnings == ("The file has 3 pages; only the first is used.",)
    assert RasterProfile.from_properties(several.to_properties()) == several


def test_missing_bands_are_refused() -> None:
    assert refused(profile("red", "green", "blue"), formula="NDRE").code == "missing-bands"
    assert refused(profile(*FIVE), preset="agriculture").code == "missing-bands"
    assert refused(profile(*FIVE), formula="NDVI", bandFilter="RGB").code == "missing-bands"


def test_bands_beyond_the_last_are_refused() -> None:
    error = refused(profile(*FIVE), bands="1,2,6")
    assert (error.code, error.message) == (
        "band-out-of-range",
        "Band 6 was asked for, but the raster has 5 band(s).",
    )


def test_a_palette_is_refused_once_the_raster_is_known() -> None:
    assert refused(profile(*FIVE), format="palette").code == "palette-impossible"
    assert plan(profile(count=1), format="palette").title == "band 1"


def test_complex_pixels_are_refused() -> None:
    assert refused(profile("red", dtype="complex64")).code == "unsupported-pixel-type"

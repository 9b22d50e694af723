"""Band roles and sensors."""

from __future__ import annotations

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.raster.bands import find_roles, parse_filter
from aerotask.raster.profile import BandProfile, RasterProfile
from aerotask.raster.sensors import find_sensor, known_sensors


def profile(
    *,
    descriptions: tuple[str | None, ...] = (),
    colours: tuple[str, ...] = (),
    text: str = "",
    dtype: str = "uint16",
) -> RasterProfile:
    count = max(len(descriptions), len(colours))
    bands = tuple(
        BandProfile(
            dtype,
            descriptions[at] if descriptions else None,
            colours[at] if colours else "undefined",
            None,
        )
        for at in range(count)
    )
    return RasterProfile(10, 10, bands, None, None, (10, 10), (), text)


def roles(described: RasterProfile, band_filter: str | None = None) -> dict[str, int]:
    parsed = None if band_filter is None else parse_filter(band_filter)
    return dict(find_roles(described, parsed).bands)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("RGB", ("R", "G", "B")),
        ("RGN", ("R", "G", "N")),
        ("BGRReN", ("B", "G", "R", "Re", "N")),
        ("bgrren", ("B", "G", "R", "Re", "N")),
        ("LRPT", (None, "R", None, "T")),
        ("RE", ("Re",)),
        ("xxN", (None, None, "N")),
    ],
)
def test_a_filter_names_bands_by_position(text: str, tokens: tuple[str | None, ...]) -> None:
    assert parse_filter(text) == tokens


@pytest.mark.parametrize("text", ["", "R G", "R,G,B", "R1", "RG?", "é", "R" * 65])
def test_a_filter_holds_letters_only(text: str) -> None:
    with pytest.raises(InvalidInput, match="give one letter for each band") as caught:
        parse_filter(text)
    assert caught.value.code == "invalid-band-filter"


def test_a_filter_names_a_role_once() -> None:
    with pytest.raises(InvalidInput, match=r"names R \(red\) twice"):
        parse_filter("RGR")


def test_a_filter_has_no_more_tokens_than_the_raster_has_bands() -> None:
    with pytest.raises(InvalidInput, match="names 4 bands, but the raster has 3") as caught:
        roles(profile(colours=("red", "green", "blue")), "RGBN")
    assert caught.value.code == "band-out-of-range"


def test_a_filter_overrules_the_metadata() -> None:
    assert roles(profile(colours=("red", "green", "blue")), "NG") == {"N": 1, "G": 2}


@pytest.mark.parametrize(
    ("description", "role"),
    [
        ("red", "R"),
        ("Green", "G"),
        ("NIR", "N"),
        ("Near Infrared", "N"),
        ("near_infrared", "N"),
        ("NIR1", "N"),
        ("rededge", "Re"),
        ("Red Edge", "Re"),
        ("RedEdge-1", "Re"),
        ("LWIR", "T"),
        ("Thermal", "T"),
        ("SWIR 1", "S1"),
    ],
)
def test_descriptions_name_roles_in_all_usual_spellings(description: str, role: str) -> None:
    assert roles(profile(descriptions=(description,))) == {role: 1}


@pytest.mark.parametrize("description", ["Band 1", "reddish", "NIR2", "alpha", ""])
def test_other_descriptions_name_no_role(description: str) -> None:
    assert roles(profile(descriptions=(description,))) == {}


def test_colour_interpretation_fills_roles_missing_from_descriptions() -> None:
    described = profile(
        descriptions=(None, None, None, "nir"), colours=("red", "green", "blue", "undefined"), dtype="uint16"
    )
    found = find_roles(described, None)
    assert dict(found.bands) == {"R": 1, "G": 2, "B": 3, "N": 4}
    assert found.known_from["N"] == "the band descriptions"
    assert found.known_from["R"] == "the colour interpretation"


def test_a_band_has_one_role_and_the_first_band_with_a_role_wins() -> None:
    described = profile(descriptions=("nir", "red", "red"), colours=("red", "green", "blue"))
    assert roles(described) == {"N": 1, "R": 2, "B": 3}


@pytest.mark.parametrize(
    ("text", "count", "dtype", "name", "expected"),
    [
        (
            "Make=MicaSense Model=RedEdge-M",
            5,
            "uint16",
            "MicaSense RedEdge",
            {"R": 3, "G": 2, "B": 1, "N": 5, "Re": 4},
        ),
        ("Model=RedEdge-P", 6, "uint16", "MicaSense RedEdge-P", {"R": 3, "G": 2, "B": 1, "N": 5, "Re": 4}),
        (
            "MicaSense Altum",
            6,
            "uint16",
            "MicaSense Altum",
            {"R": 3, "G": 2, "B": 1, "N": 5, "Re": 4, "T": 6},
        ),
        (
            "Make=DJI Model=FC6360",
            5,
            "uint16",
            "DJI P4 Multispectral",
            {"R": 3, "G": 2, "B": 1, "N": 5, "Re": 4},
        ),
        ("Model=M3M", 4, "uint16", "DJI Mavic 3 Multispectral", {"R": 2, "G": 1, "N": 4, "Re": 3}),
        ("Parrot Sequoia", 4, "float32", "Parrot Sequoia", {"R": 2, "G": 1, "N": 4, "Re": 3}),
        ("Sentera 6X", 6, "uint16", "Sentera 6X", {"R": 3, "G": 2, "B": 1, "N": 6, "Re": 4}),
        (
            "S2A_MSIL2A",
            12,
            "uint16",
            "Sentinel-2 MSI",
            {"R": 4, "G": 3, "B": 2, "N": 8, "Re": 5, "S1": 11, "S2": 12},
        ),
        (
            "LANDSAT_8",
            11,
            "uint16",
            "Landsat 8/9 OLI and TIRS",
            {"R": 4, "G": 3, "B": 2, "N": 5, "T": 10, "S1": 6, "S2": 7},
        ),
        (
            "LC09_L2SP",
            7,
            "uint16",
            "Landsat 8/9 OLI and TIRS",
            {"R": 4, "G": 3, "B": 2, "N": 5, "S1": 6, "S2": 7},
        ),
        ("Landsat 7 ETM+", 6, "uint8", "Landsat 7 ETM+", {"R": 3, "G": 2, "B": 1, "N": 4, "S1": 5, "S2": 6}),
        ("LT05", 7, "uint8", "Landsat 5 TM", {"R": 3, "G": 2, "B": 1, "N": 4, "T": 6, "S1": 5, "S2": 7}),
        ("WV02", 8, "uint16", "WorldView-2", {"R": 5, "G": 3, "B": 2, "N": 7, "Re": 6}),
        ("WorldView-3", 8, "uint16", "WorldView-3", {"R": 5, "G": 3, "B": 2, "N": 7, "Re": 6}),
        ("FLIR Vue Pro R", 1, "uint16", "FLIR thermal camera", {"T": 1}),
        ("Make=DJI Model=ZH20T", 1, "float32", "DJI thermal camera", {"T": 1}),
    ],
)
def test_a_sensor_is_recognised_by_text_band_count_and_type(
    text: str, count: int, dtype: str, name: str, expected: dict[str, int]
) -> None:
    described = profile(colours=("undefined",) * count, text=text, dtype=dtype)
    found = find_sensor(described)
    assert found is not None
    assert found.name == name
    assert roles(described) == expected


@pytest.mark.parametrize(
    ("text", "count", "dtype"),
    [("", 5, "uint16"), ("MicaSense", 4, "uint16"), ("MicaSense", 5, "uint8"), ("some camera", 5, "uint16")],
)
def test_a_raster_without_a_matching_sensor_has_none(text: str, count: int, dtype: str) -> None:
    assert find_sensor(profile(colours=("undefined",) * count, text=text, dtype=dtype)) is None


def test_an_alpha_band_is_not_counted() -> None:
    described = profile(colours=(*("undefined",) * 5, "alpha"), text="RedEdge")
    found = find_sensor(described)
    assert found is not None
    assert found.bands == ("B", "G", "R", "Re", "N")


def test_the_list_names_every_sensor_once() -> None:
    assert len(set(known_sensors())) == len(known_sensors()) == 15

"""Names and colour interpretations of merged bands."""

import pytest

from aerotask.raster.merge.band_names import Clues, NamedBand, name_bands


@pytest.mark.parametrize(
    ("clues", "name", "colour"),
    [
        (Clues("IMG_1.tif", description="Red Edge"), "rededge", "rededge"),
        (Clues("IMG_1.tif", camera_band="NIR"), "nir", "nir"),
        (Clues("IMG_1.tif", wavelength_nm=668), "red", "red"),
        (Clues("IMG_1.tif", wavelength_nm=11000), "thermal", "tir"),
        (Clues("ms_blue.tif"), "blue", "blue"),
        (Clues("survey_red_edge.tif"), "rededge", "rededge"),
        (Clues("DJI_20230309_0001_MS_G.TIF"), "green", "green"),
        (Clues("DJI_20230309_0001_MS_NIR.TIF"), "nir", "nir"),
        (Clues("DJI_20230309_0001_MS_RE.TIF"), "rededge", "rededge"),
    ],
)
def test_a_role_is_found_in_any_clue(clues: Clues, name: str, colour: str) -> None:
    assert name_bands([clues]) == (NamedBand(name, colour),)


def test_the_description_comes_before_the_camera_the_wavelength_and_the_file_name() -> None:
    assert name_bands([Clues("green.tif", "red", "NIR", 475)])[0].name == "red"
    assert name_bands([Clues("green.tif", None, "NIR", 475)])[0].name == "nir"
    assert name_bands([Clues("green.tif", None, None, 475)])[0].name == "blue"
    assert name_bands([Clues("green.tif", "band 1", "?", 3000)])[0].name == "green"


@pytest.mark.parametrize("file_name", ["flight_b.tif", "IMG_0000_1.tif", "plot-r.tif", "n.tif"])
def test_a_single_letter_or_number_alone_tells_nothing(file_name: str) -> None:
    assert name_bands([Clues(file_name)]) == (NamedBand(file_name[:-4], "undefined"),)


def test_bands_without_a_role_keep_their_own_name() -> None:
    named = name_bands([Clues("a.tif", "panchro\x1bmatic"), Clues("b.tif", None, "Coastal 443")])
    assert [band.name for band in named] == ["panchro matic", "Coastal 443"]


def test_names_are_different() -> None:
    named = name_bands([Clues("a/red.tif"), Clues("red.tif"), Clues("b.tif", "red"), Clues("red_2.tif")])
    assert [band.name for band in named] == ["red", "red_2", "red_3", "red_2_2"]
    assert [band.colour for band in named] == ["red", "undefined", "undefined", "undefined"]

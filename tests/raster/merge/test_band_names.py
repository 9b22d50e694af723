"""Names and colour interpretations of merged bands."""

import pytest

from aerotask.raster.merge.band_names import BandClues, NamedBand, name_bands


@pytest.mark.parametrize(
    ("clues", "name", "colour"),
    [
        (BandClues("IMG_1.tif", description="Red Edge"), "rededge", "rededge"),
        (BandClues("IMG_1.tif", camera_band="NIR"), "nir", "nir"),
        (BandClues("IMG_1.tif", wavelength_nm=668), "red", "red"),
        (BandClues("IMG_1.tif", wavelength_nm=11000), "thermal", "tir"),
        (BandClues("ms_blue.tif"), "blue", "blue"),
        (BandClues("survey_red_edge.tif"), "rededge", "rededge"),
        (BandClues("DJI_20230309_0001_MS_G.TIF"), "green", "green"),
        (BandClues("DJI_20230309_0001_MS_NIR.TIF"), "nir", "nir"),
        (BandClues("DJI_20230309_0001_MS_RE.TIF"), "rededge", "rededge"),
    ],
)
def test_a_role_is_found_in_any_metadata(clues: BandClues, name: str, colour: str) -> None:
    assert name_bands([clues]) == (NamedBand(name, colour),)


def test_the_description_comes_before_the_camera_the_wavelength_and_the_file_name() -> None:
    assert name_bands([BandClues("green.tif", "red", "NIR", 475)])[0].name == "red"
    assert name_bands([BandClues("green.tif", None, "NIR", 475)])[0].name == "nir"
    assert name_bands([BandClues("green.tif", None, None, 475)])[0].name == "blue"
    assert name_bands([BandClues("green.tif", "band 1", "?", 3000)])[0].name == "green"


@pytest.mark.parametrize("file_name", ["flight_b.tif", "IMG_0000_1.tif", "plot-r.tif", "n.tif"])
def test_a_single_letter_or_number_names_no_role(file_name: str) -> None:
    assert name_bands([BandClues(file_name)]) == (NamedBand(file_name[:-4], "undefined"),)


def test_bands_without_a_role_keep_their_own_name() -> None:
    named = name_bands([BandClues("a.tif", "panchro\x1bmatic"), BandClues("b.tif", None, "Coastal 443")])
    assert [band.name for band in named] == ["panchro matic", "Coastal 443"]


def test_names_are_unique() -> None:
    named = name_bands(
        [BandClues("a/red.tif"), BandClues("red.tif"), BandClues("b.tif", "red"), BandClues("red_2.tif")]
    )
    assert [band.name for band in named] == ["red", "red_2", "red_3", "red_2_2"]
    assert [band.colour for band in named] == ["red", "undefined", "undefined", "undefined"]

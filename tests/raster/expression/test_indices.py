"""Indices by id, custom formulas, and the bands of their names."""

from __future__ import annotations

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.raster.bands import BandRoles
from aerotask.raster.expression.indices import (
    ValueRange,
    index_ids,
    parse_formula,
    resolve_names,
    single_band,
)

RGB = BandRoles({"R": 1, "G": 2, "B": 3}, dict.fromkeys("RGB", "the band filter"))


def test_there_are_twenty_six_indices() -> None:
    assert index_ids() == (
        "VARI",
        "EXG",
        "GLI",
        "vNDVI",
        "NDVI",
        "GNDVI",
        "NDRE",
        "NDWI",
        "NDYI",
        "MPRI",
        "SAVI",
        "OSAVI",
        "EVI",
        "ARVI",
        "GRVI",
        "ENDVI",
        "MSAVI",
        "MSAVI2",
        "CIgreen",
        "CIrededge",
        "NDMI",
        "NBR",
        "TGI",
        "BAI",
        "CELSIUS",
        "KELVIN",
    )


def test_ids_are_found_in_any_case() -> None:
    assert {parse_formula(text).title for text in ("ndvi", "NdVi", " NDVI ")} == {"NDVI"}


def test_most_indices_range_from_minus_one_to_one() -> None:
    ranges = {index_id: parse_formula(index_id).value_range for index_id in index_ids()}
    by_percentiles = {"EXG", "vNDVI", "GRVI", "ENDVI", "CIgreen", "CIrededge", "TGI", "BAI"}
    assert {name for name, each in ranges.items() if each is None} == by_percentiles
    assert ranges.pop("CELSIUS") == ValueRange(-40, 150)
    assert ranges.pop("KELVIN") == ValueRange(233.15, 423.15)
    assert {each for each in ranges.values() if each} == {ValueRange(-1, 1)}


def test_a_custom_formula_has_no_range() -> None:
    formula = parse_formula("(N-R)/(N+R)")
    assert (formula.title, formula.value_range) == ("(N-R)/(N+R)", None)


def test_the_error_for_an_unknown_id_lists_the_known_ones() -> None:
    with pytest.raises(
        InvalidInput, match=r"There is no formula 'NDVX'\. Did you mean 'NDVI'\? Choose one of VARI, EXG,"
    ) as caught:
        parse_formula("NDVX")
    assert caught.value.code == "unknown-formula"


@pytest.mark.parametrize("text", ["(X-R)/(X+R)", "N+b0", "N+b99999", "bb1*2", "N+x@0"])
def test_an_unknown_name_within_a_formula_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="which is no band, index or function") as caught:
        parse_formula(text)
    assert caught.value.code == "invalid-formula"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("N + niir", "names 'niir' at character 5, which is no band, index or function. Did you mean 'nir'?"),
        (
            "NDVX*100",
            "names 'NDVX' at character 1, which is no band, index or function. Did you mean 'NDVI'?",
        ),
        ("1-NR", "names 'NR' at character 3, which is no band, index or function. To multiply, write 'N*R'."),
        ("N=R", "assigns to 'N', which is a band; '==' compares"),
    ],
)
def test_the_nearest_thing_to_what_is_not_understood_is_named(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_formula(text)
    assert said in caught.value.message


def test_a_label_that_says_an_index_is_that_index() -> None:
    assert parse_formula("ndvi = (N−R)/(N+R)") == parse_formula("NDVI")
    assert parse_formula("EXG=2G-(R+B)") == parse_formula("EXG")


def test_a_label_names_a_custom_formula() -> None:
    assert parse_formula("vigour = N/R").title == "vigour"
    other = parse_formula("NDVI=(N-G)/(N+G)")
    assert (other.title, other.value_range) == ("NDVI=(N-G)/(N+G)", None)


def test_an_index_within_a_formula_stands_for_its_expression() -> None:
    assert parse_formula("100NDVI").expression == parse_formula("100*((N-R)/(N+R))").expression
    assert resolve_names(parse_formula("VARI+1"), RGB, 3) == {"G": 2, "R": 1, "B": 3}


def test_a_formula_without_a_band_is_refused() -> None:
    with pytest.raises(InvalidInput, match="reads no band"):
        parse_formula("1+2")


def test_a_formula_reads_at_most_sixteen_bands() -> None:
    sixteen = "+".join(f"b{number}" for number in range(1, 17))
    assert parse_formula(sixteen).text == sixteen
    with pytest.raises(InvalidInput, match="reads 17 bands; at most 16"):
        parse_formula("+".join(f"b{number}" for number in range(1, 18)))


def test_names_are_resolved_in_any_case() -> None:
    assert resolve_names(parse_formula("(g-R)/B2"), RGB, 3) == {"g": 2, "R": 1, "B2": 2}


def test_names_are_resolved_in_all_usual_spellings() -> None:
    roles = BandRoles({"R": 1, "N": 4, "Re": 5}, dict.fromkeys(["R", "N", "Re"], "the band filter"))
    formula = parse_formula(
        'nir + NIR + red_edge + "Red Edge" + rededge + "ortho@2" + band3 + band_3 + "band 3"'
    )
    assert resolve_names(formula, roles, 5) == {
        "nir": 4,
        "NIR": 4,
        "red_edge": 5,
        "Red Edge": 5,
        "rededge": 5,
        "ortho@2": 2,
        "band3": 3,
        "band_3": 3,
        "band 3": 3,
    }


def test_missing_bands_are_all_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        resolve_names(parse_formula("(N-Re)/(N+R)"), RGB, 3)
    assert caught.value.code == "missing-bands"
    assert caught.value.message == (
        "(N-Re)/(N+R) needs N (near infrared) and Re (red edge), which no band of the raster is known to be. "
        "Known: R=1, G=2, B=3. Give the order of the bands with bandFilter ('RGBN', for example), or choose another."
    )


def test_the_error_suggests_no_filter_for_roles_that_a_filter_cannot_name() -> None:
    with pytest.raises(InvalidInput, match=r"S1 \(short-wave infrared at 1.6 µm\).*write a formula over b1"):
        resolve_names(parse_formula("S1/R"), RGB, 3)


def test_a_numbered_band_must_exist() -> None:
    with pytest.raises(InvalidInput, match=r"reads band 4, but the raster has 3 band\(s\)") as caught:
        resolve_names(parse_formula("b4/b1"), RGB, 3)
    assert caught.value.code == "band-out-of-range"


def test_a_single_band_is_a_formula_too() -> None:
    assert resolve_names(single_band(2), RGB, 3) == {"b2": 2}

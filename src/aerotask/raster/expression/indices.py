"""Vegetation, water and temperature indices by id, and custom formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.bands import MEANINGS, NAMEABLE, BandRoles
from aerotask.raster.expression.names import band_number, band_role, meant_by
from aerotask.raster.expression.parser import parse, parse_labelled
from aerotask.raster.expression.syntax import Expression, Name, names, substitute
from aerotask.raster.expression.tokens import FormulaToken, tokenize

MAX_BANDS = 16
"""Maximum number of different bands in a formula; a window of each is held in memory."""


@dataclass(frozen=True, slots=True)
class ValueRange:
    """Range of values: those of the first and the last colour."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Formula:
    """Arithmetic over bands; `value_range` is None where the range must be taken from the pixels."""

    title: str
    text: str
    expression: Expression
    value_range: ValueRange | None = None
    needs_reflectances: bool = False
    """Whether its constants suit values from 0 to 1 only."""


@dataclass(frozen=True, slots=True)
class _Index:
    text: str
    value_range: ValueRange | None = ValueRange(-1, 1)
    computed: str | None = None
    needs_reflectances: bool = False
    """The same in a form that is better to compute."""


# Qi et al. 1994, the closed form of the series whose first member needs the slope of the soil line. Computed as the
# other root of its quadratic equation, since the difference of large numbers has few digits in float32.
_MSAVI2 = _Index(
    "(2*N+1-sqrt((2*N+1)^2-8*(N-R)))/2",
    computed="4*(N-R)/(2*N+1+sqrt((2*N+1)^2-8*(N-R)))",
    needs_reflectances=True,
)

# Published forms; where sources differ, the one given here is the platform's contract (docs/tools/raster-export.md).
_INDICES: Mapping[str, _Index] = MappingProxyType(
    {
        "VARI": _Index("(G-R)/(G+R-B)"),  # Gitelson et al. 2002
        "EXG": _Index("2*G-(R+B)", None),  # Woebbecke et al. 1995
        "GLI": _Index("(2*G-R-B)/(2*G+R+B)"),  # Louhaichi et al. 2001
        "vNDVI": _Index(  # Costa et al. 2020; a division by false leaves no value
            "0.5268*R^-0.1294*G^0.3389*B^-0.3118",
            None,
            computed="0.5268*R^-0.1294*G^0.3389*B^-0.3118/(min(R,G,B)>0)",
        ),
        "NDVI": _Index("(N-R)/(N+R)"),  # Rouse et al. 1974
        "GNDVI": _Index("(N-G)/(N+G)"),  # Gitelson et al. 1996
        "NDRE": _Index("(N-Re)/(N+Re)"),  # Barnes et al. 2000
        "NDWI": _Index("(G-N)/(G+N)"),  # McFeeters 1996
        "NDYI": _Index("(G-B)/(G+B)"),  # Sulik and Long 2016
        "MPRI": _Index("(G-R)/(G+R)"),  # Yang et al. 2008
        "SAVI": _Index("1.5*(N-R)/(N+R+0.5)", needs_reflectances=True),  # Huete 1988, L = 0.5
        "OSAVI": _Index("(N-R)/(N+R+0.16)", needs_reflectances=True),  # Rondeaux et al. 1996
        "EVI": _Index("2.5*(N-R)/(N+6*R-7.5*B+1)", needs_reflectances=True),  # Huete et al. 2002
        "ARVI": _Index("(N-2*R+B)/(N+2*R+B)"),
        "GRVI": _Index("N/G", None),  # Sripada et al. 2006
        "ENDVI": _Index("((N+G)-2*B)/((N+G)+2*B)", None),  # Maxmax 2015
        "MSAVI": _MSAVI2,  # what is usually meant by that name
        "MSAVI2": _MSAVI2,
        "CIgreen": _Index("N/G-1", None),  # Gitelson et al. 2003, 2005
        "CIrededge": _Index("N/Re-1", None),  # Gitelson et al. 2003, 2005
        "NDMI": _Index("(N-S1)/(N+S1)"),  # Wilson and Sader 2002; of water in leaves, as Gao's NDWI of 1995
        "NBR": _Index("(N-S2)/(N+S2)"),  # Key and Benson 2006
        "TGI": _Index("-0.5*(190*(R-G)-120*(R-B))", None),  # Hunt et al. 2011, 2013: at 670, 550 and 480 nm
        "BAI": _Index("1/((0.1-R)^2+(0.06-N)^2)", None, needs_reflectances=True),  # Chuvieco et al. 2002
        "CELSIUS": _Index("b1", ValueRange(-40, 150)),
        "KELVIN": _Index("b1+273.15", ValueRange(233.15, 423.15)),
    }
)
_IDS = {index_id.lower(): index_id for index_id in _INDICES}


def index_ids() -> tuple[str, ...]:
    """The ids of all indices."""
    return tuple(_INDICES)


def parse_formula(text: str) -> Formula:
    """The index with that id (in any case), or else the parsed custom formula.

    Raises:
        InvalidInput: it is neither (`unknown-formula`, `invalid-formula`).
    """
    index_id = _IDS.get(text.strip().lower())
    return _custom_formula(text.strip()) if index_id is None else _index_formula(index_id)


def single_band(number: int) -> Formula:
    """The formula for the values of one band."""
    return Formula(f"band {number}", f"b{number}", Name(f"b{number}"))


def resolve_names(formula: Formula, roles: BandRoles, band_count: int) -> Mapping[str, int]:
    """The band (counted from 1) behind every name that the formula uses.

    Raises:
        InvalidInput: the raster has no band for some of them (`missing-bands`, `band-out-of-range`).
    """
    found: dict[str, int] = {}
    missing: list[str] = []
    for name in dict.fromkeys(names(formula.expression)):
        number = band_number(name) or roles.bands.get(band_role(name) or "")
        if number is None:
            missing.append(band_role(name) or name)
        elif number > band_count:
            raise InvalidInput(
                f"{formula.title} reads band {number}, but the raster has {band_count} band(s).",
                code="band-out-of-range",
            )
        else:
            found[name] = number
    if missing:
        raise InvalidInput(missing_bands_message(formula.title, missing, roles), code="missing-bands")
    return found


def missing_bands_message(title: str, missing: list[str], roles: BandRoles) -> str:
    """The error message for bands that neither the raster nor the band filter has."""
    roles_missing = tuple(dict.fromkeys(missing))
    listed = " and ".join(f"{role} ({MEANINGS[role]})" for role in roles_missing)
    remedy = "Choose another, or write a formula over b1, b2 and so on."
    if NAMEABLE.issuperset(roles_missing):
        remedy = "Give the order of the bands with bandFilter ('RGBN', for example), or choose another."
    return f"{title} needs {listed}, which no band of the raster is known to be. Known: {roles.listed()}. {remedy}"


def _index_formula(index_id: str) -> Formula:
    index = _INDICES[index_id]
    expression = parse(index.computed or index.text)
    return Formula(index_id, index.text, expression, index.value_range, index.needs_reflectances)


def _custom_formula(text: str) -> Formula:
    label, expression = parse_labelled(text)
    written = dict.fromkeys(names(expression))
    indices = {
        name: _index_formula(_IDS[name.lower()]).expression for name in written if name.lower() in _IDS
    }
    for name in written:
        if name not in indices and band_number(name) is None and band_role(name) is None:
            raise _unknown_name(name, text)
    needs_reflectances = any(_INDICES[_IDS[name.lower()]].needs_reflectances for name in indices)
    computed = substitute(expression, indices)
    used = {band_number(name) or band_role(name) for name in names(computed)}
    if not used:
        raise InvalidInput(f"The formula {shown(text)} reads no band.", code="invalid-formula")
    if len(used) > MAX_BANDS:
        raise InvalidInput(
            f"The formula reads {len(used)} bands; at most {MAX_BANDS} are allowed.", code="invalid-formula"
        )
    formula = Formula(text, text, computed, needs_reflectances=needs_reflectances)
    return formula if label is None else _labelled(label, formula, expression)


def _labelled(label: FormulaToken, formula: Formula, written: Expression) -> Formula:
    """The formula in `NAME=…`: the index of that name if it says the same, else a custom one of that name."""
    if band_number(label.text) or band_role(label.text):
        raise InvalidInput(
            f"The formula assigns to {shown(label.written)}, which is a band; '==' compares, and a name before '=' names "
            "the result, as in 'NDVI=(N-R)/(N+R)'.",
            code="invalid-formula",
        )
    index_id = _IDS.get(label.text.lower())
    if index_id is None:
        return replace(formula, title=label.text)
    if written in (parse(_INDICES[index_id].text), Name(label.text)):
        return _index_formula(index_id)
    return formula


def _unknown_name(name: str, text: str) -> InvalidInput:
    meant = meant_by(name, _INDICES)
    if name == text:
        return InvalidInput(
            f"There is no formula {shown(name)}. {f'{meant} ' if meant else ''}Choose one of {', '.join(_INDICES)}, or "
            "write arithmetic over bands, such as '(N-R)/(N+R)' or 'b4/b1'.",
            code="unknown-formula",
        )
    position = next(token.start for token in tokenize(text) if token.text == name and token.kind != "sign")
    return InvalidInput(
        f"The formula names {shown(name)} at character {position + 1}, which is no band, index or function. "
        f"{f'{meant} ' if meant else ''}Bands are R, G, B, N, Re, T, names such as red_edge, or b1, b2 and so on.",
        code="invalid-formula",
    )

"""Vegetation, water and temperature indices by id, and custom formulas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.bands import MEANINGS, NAMEABLE, BandRoles
from aerotask.raster.expression import parser
from aerotask.raster.expression.parser import Expression

MAX_BANDS = 16
"""Maximum number of different bands in a formula; a window of each is held in memory."""

_NUMBERED = re.compile(r"b([0-9]{1,4})", re.IGNORECASE)
_ROLES = {role.lower(): role for role in MEANINGS}


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
    positive_bands: bool = False
    """Whether a pixel is valid only if every band is above 0 there (powers of bands need that)."""


@dataclass(frozen=True, slots=True)
class _Index:
    text: str
    value_range: ValueRange | None = ValueRange(-1, 1)
    positive_bands: bool = False


# Published forms; where sources differ, the one given here is the platform's contract (docs/tools/raster-export.md).
_INDICES: Mapping[str, _Index] = MappingProxyType(
    {
        "VARI": _Index("(G-R)/(G+R-B)"),  # Gitelson et al. 2002
        "EXG": _Index("2*G-(R+B)", None),  # Woebbecke et al. 1995
        "GLI": _Index("(2*G-R-B)/(2*G+R+B)"),  # Louhaichi et al. 2001
        "vNDVI": _Index(
            "0.5268*R^-0.1294*G^0.3389*B^-0.3118", None, positive_bands=True
        ),  # Costa et al. 2020
        "NDVI": _Index("(N-R)/(N+R)"),  # Rouse et al. 1974
        "GNDVI": _Index("(N-G)/(N+G)"),  # Gitelson et al. 1996
        "NDRE": _Index("(N-Re)/(N+Re)"),  # Barnes et al. 2000
        "NDWI": _Index("(G-N)/(G+N)"),  # McFeeters 1996
        "NDYI": _Index("(G-B)/(G+B)"),  # Sulik and Long 2016
        "MPRI": _Index("(G-R)/(G+R)"),  # Yang et al. 2008
        "SAVI": _Index("1.5*(N-R)/(N+R+0.5)"),  # Huete 1988, L = 0.5
        "OSAVI": _Index("(N-R)/(N+R+0.16)"),  # Rondeaux et al. 1996
        "EVI": _Index("2.5*(N-R)/(N+6*R-7.5*B+1)"),  # Huete et al. 2002
        "ARVI": _Index("(N-2*R+B)/(N+2*R+B)"),
        "GRVI": _Index("N/G", None),  # Sripada et al. 2006
        "ENDVI": _Index("((N+G)-2*B)/((N+G)+2*B)", None),  # Maxmax 2015
        "CELSIUS": _Index("b1", ValueRange(-40, 150)),
        "KELVIN": _Index("b1+273.15", ValueRange(233.15, 423.15)),
    }
)


def index_ids() -> tuple[str, ...]:
    """The ids of all indices."""
    return tuple(_INDICES)


def parse_formula(text: str) -> Formula:
    """The index with that id (in any case), or else the parsed custom formula.

    Raises:
        InvalidInput: it is neither (`unknown-formula`, `invalid-formula`).
    """
    id_lower = text.strip().lower()
    for index_id, index in _INDICES.items():
        if index_id.lower() == id_lower:
            expression = parser.parse(index.text)
            return Formula(index_id, index.text, expression, index.value_range, index.positive_bands)
    return _custom_formula(text.strip())


def single_band(number: int) -> Formula:
    """The formula for the values of one band."""
    return Formula(f"band {number}", f"b{number}", parser.Name(f"b{number}"))


def resolve_names(formula: Formula, roles: BandRoles, band_count: int) -> Mapping[str, int]:
    """The band (counted from 1) behind every name that the formula uses.

    Raises:
        InvalidInput: the raster has no band for some of them (`missing-bands`, `band-out-of-range`).
    """
    found: dict[str, int] = {}
    missing: list[str] = []
    for name in dict.fromkeys(parser.names(formula.expression)):
        number = _numbered(name) or roles.bands.get(_role(name) or "")
        if number is None:
            missing.append(_role(name) or name)
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


def _custom_formula(text: str) -> Formula:
    expression = parser.parse(text)
    used = tuple(dict.fromkeys(parser.names(expression)))
    for name in used:
        if _numbered(name) is None and _role(name) is None:
            raise _unknown_name(name, whole=name == text)
    if not used:
        raise InvalidInput(f"The formula {shown(text)} reads no band.", code="invalid-formula")
    if len(used) > MAX_BANDS:
        raise InvalidInput(
            f"The formula reads {len(used)} bands; at most {MAX_BANDS} are allowed.", code="invalid-formula"
        )
    return Formula(text, text, expression)


def _unknown_name(name: str, *, whole: bool) -> InvalidInput:
    if whole:
        return InvalidInput(
            f"There is no formula {shown(name)}. Choose one of {', '.join(_INDICES)}, or write arithmetic over bands, "
            "such as '(N-R)/(N+R)' or 'b4/b1'.",
            code="unknown-formula",
        )
    return InvalidInput(
        f"The formula names {shown(name)}, which is no band: use R, G, B, N, Re, T or b1, b2 and so on.",
        code="invalid-formula",
    )


def _numbered(name: str) -> int | None:
    found = _NUMBERED.fullmatch(name)
    number = int(found[1]) if found else 0
    return number or None


def _role(name: str) -> str | None:
    return _ROLES.get(name.lower())

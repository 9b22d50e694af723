"""Names of bands in formulas: roles (`N`, `nir`, `red_edge`) and numbers (`b4`, `"file@4"`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aerotask.domain.paths import shown
from aerotask.domain.suggestions import nearest
from aerotask.raster.bands import MEANINGS, role_of_description
from aerotask.raster.expression.syntax import ARGUMENTS

# `x@4` is the form of QGIS's raster calculator: band 4 of the layer x.
_NUMBERED = re.compile(r"(?:b(?:and[ _]?)?|.*@)([0-9]{1,4})", re.IGNORECASE)
_ROLES = {role.lower(): role for role in MEANINGS}
_SPELLINGS = ("red", "green", "blue", "nir", "red_edge", "rededge", "thermal", "swir1", "swir2")
_PRODUCT = re.compile(r"(?:Re|[RGBNT])+")


def band_number(name: str) -> int | None:
    """The band (from 1) that the name gives by number; None if it gives none."""
    found = _NUMBERED.fullmatch(name)
    number = int(found[1]) if found else 0
    return number or None


def band_role(name: str) -> str | None:
    """The role that the name stands for, in any case and usual spelling."""
    return _ROLES.get(name.lower()) or role_of_description(name)


def meant_by(name: str, index_ids: Iterable[str]) -> str | None:
    """Suggestion for an unknown name, as a sentence; None if nothing is like it."""
    factors = _PRODUCT.fullmatch(name) and re.findall(r"Re|[RGBNT]", name)
    if factors and len(factors) > 1:
        return f"To multiply, write '{'*'.join(factors)}'."
    found = nearest(name, [*index_ids, *_SPELLINGS, *ARGUMENTS])
    return f"Did you mean {shown(found)}?" if found else None

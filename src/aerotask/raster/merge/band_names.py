"""Names of a merged raster's bands, from metadata or file names, so that formulas find them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aerotask.domain.text_cleaning import clean_line
from aerotask.raster.bands import role_of_description

_NAMES: Mapping[str, tuple[str, str]] = {
    "R": ("red", "red"),
    "G": ("green", "green"),
    "B": ("blue", "blue"),
    "N": ("nir", "nir"),
    "Re": ("rededge", "rededge"),
    "T": ("thermal", "tir"),
    "S1": ("swir1", "swir"),
    "S2": ("swir2", "swir"),
}
"""Name and GDAL colour interpretation of each role."""

_LETTERS = {"r": "R", "g": "G", "b": "B", "n": "N", "nir": "N", "re": "Re"}
# In nm: the usual ranges of these bands in multispectral cameras.
_WAVELENGTHS = (
    ((430, 510), "B"),
    ((515, 600), "G"),
    ((620, 690), "R"),
    ((695, 760), "Re"),
    ((765, 1000), "N"),
    ((7000, 14500), "T"),
)
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class BandClues:
    """Metadata of a band: its description in the raster, the camera's tags, and the file's name."""

    file_name: str
    description: str | None = None
    camera_band: str | None = None
    wavelength_nm: float | None = None


@dataclass(frozen=True, slots=True)
class NamedBand:
    """Name of a band, and its GDAL colour interpretation in lower case (`undefined` if it has none)."""

    name: str
    colour: str


def name_bands(clues: Sequence[BandClues]) -> tuple[NamedBand, ...]:
    """A unique name for each band: `red`, `nir` and so on where the role is known."""
    taken: set[str] = set()
    named = []
    for each in clues:
        role = _role(each)
        own = each.description or each.camera_band or _stem(each.file_name)
        name, colour = _NAMES[role] if role else (clean_line(own)[:MAX_NAME_CHARS].strip(), "undefined")
        if name in taken:
            number = next(n for n in range(2, len(clues) + 2) if f"{name}_{n}" not in taken)
            name, colour = f"{name}_{number}", "undefined"
        taken.add(name)
        named.append(NamedBand(name, colour))
    return tuple(named)


def _role(clues: BandClues) -> str | None:
    """The role by the first clue that names one."""
    return (
        role_of_description(clues.description)
        or role_of_description(clues.camera_band)
        or _role_by_wavelength(clues.wavelength_nm)
        or _role_by_file_name(clues.file_name)
    )


def _role_by_wavelength(wavelength_nm: float | None) -> str | None:
    if wavelength_nm is None:
        return None
    return next((role for (low, high), role in _WAVELENGTHS if low <= wavelength_nm <= high), None)


def _role_by_file_name(file_name: str) -> str | None:
    """`field_red_edge.tif` and `DJI_0012_MS_RE.TIF`; single letters count only after `MS`, as DJI writes them."""
    words = [word for word in re.split(r"[^a-z0-9]+", _stem(file_name).lower()) if word]
    if words[-2:-1] == ["ms"] and words[-1] in _LETTERS:
        return _LETTERS[words[-1]]
    endings = ("".join(words[-count:]) for count in (2, 1) if len(words) >= count)
    return next((role for text in endings if len(text) > 2 and (role := role_of_description(text))), None)


def _stem(file_name: str) -> str:
    return file_name.rpartition(".")[0] or file_name

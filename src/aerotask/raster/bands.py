"""Band roles: red, near infrared and so on, from the user's band filter or the raster's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.profile import RasterProfile
from aerotask.raster.sensors import find_sensor

MEANINGS: Mapping[str, str] = {
    "R": "red",
    "G": "green",
    "B": "blue",
    "N": "near infrared",
    "Re": "red edge",
    "T": "thermal",
    "S1": "short-wave infrared at 1.6 µm",
    "S2": "short-wave infrared at 2.2 µm",
}
"""Band roles by the names that formulas use. `S1` and `S2` are known from sensors alone."""

NAMEABLE = frozenset({"R", "G", "B", "N", "Re", "T"})
"""The roles that a band filter can name."""

MAX_FILTER_CHARS = 64
_FILTER_TOKEN = re.compile(r"re|[a-z]", re.IGNORECASE)

# Band descriptions without case, spaces and punctuation. A number after a name counts only where
# makers number comparable bands (NIR1 and NIR2 of WorldView, two red edges of a Sentera): the first wins.
_DESCRIBED = {
    "R": {"r", "red"},
    "G": {"g", "green"},
    "B": {"b", "blue"},
    "N": {"n", "nir", "nir1", "nearinfrared", "nearir", "infrared"},
    "Re": {"re", "rededge", "rededge1"},
    "T": {"t", "thermal", "lwir", "thermalir", "temperature"},
    "S1": {"swir1", "swir16"},
    "S2": {"swir2", "swir22"},
}
_COLOURS = {"red": "R", "green": "G", "blue": "B", "nir": "N", "rededge": "Re", "tir": "T"}


@dataclass(frozen=True, slots=True)
class BandRoles:
    """Band number (from 1) of each role, and the source of that knowledge."""

    bands: Mapping[str, int]
    known_from: Mapping[str, str]

    def listed(self) -> str:
        """The roles for a message: `R=1, G=2, N=4`."""
        return ", ".join(f"{role}={band}" for role, band in self.bands.items()) or "none"


def parse_filter(text: str) -> tuple[str | None, ...]:
    """The roles that a `bandFilter` names, band by band; None for a band that it skips.

    Raises:
        InvalidInput: it has a character that is no letter, or names a role twice (`invalid-band-filter`).
    """
    tokens = _FILTER_TOKEN.findall(text)
    if not tokens or len(text) > MAX_FILTER_CHARS or "".join(tokens) != text:
        raise InvalidInput(
            f"The band filter {shown(text)} is invalid: give one letter for each band in order, from "
            "R, G, B, N, Re and T, and any other letter for a band to skip; 'RGN' or 'BGRReN', for example.",
            code="invalid-band-filter",
        )
    nameable = {role.lower(): role for role in NAMEABLE}
    roles = tuple(nameable.get(token.lower()) for token in tokens)
    named = [role for role in roles if role]
    twice = next((role for role in named if named.count(role) > 1), None)
    if twice:
        raise InvalidInput(
            f"The band filter {shown(text)} names {twice} ({MEANINGS[twice]}) twice; name each role once.",
            code="invalid-band-filter",
        )
    return roles


def find_roles(profile: RasterProfile, band_filter: tuple[str | None, ...] | None) -> BandRoles:
    """The roles of the raster's bands by the filter or, without one, by its metadata.

    Raises:
        InvalidInput: the filter names more bands than there are (`band-out-of-range`).
    """
    if band_filter is None:
        return _roles_from_metadata(profile)
    if len(band_filter) > profile.count:
        raise InvalidInput(
            f"The band filter names {len(band_filter)} bands, but the raster has {profile.count}.",
            code="band-out-of-range",
        )
    bands = {role: number for number, role in enumerate(band_filter, start=1) if role}
    return BandRoles(bands, dict.fromkeys(bands, "the band filter"))


def _roles_from_metadata(profile: RasterProfile) -> BandRoles:
    """Roles by descriptions, then colour interpretation, then the sensor: the first that names a role wins."""
    bands: dict[str, int] = {}
    known_from: dict[str, str] = {}
    sensor = find_sensor(profile)
    candidates = [
        ("the band descriptions", [role_of_description(band.description) for band in profile.bands]),
        ("the colour interpretation", [_COLOURS.get(band.colour) for band in profile.bands]),
    ]
    if sensor:
        candidates.append((f"the sensor ({sensor.name})", [role or None for role in sensor.bands]))
    for source, roles in candidates:
        for number, role in enumerate(roles, start=1):
            if role and role not in bands and number not in bands.values():
                bands[role], known_from[role] = number, source
    in_order = {role: bands[role] for role in MEANINGS if role in bands}
    return BandRoles(in_order, known_from)


def role_of_description(description: str | None) -> str | None:
    """The role that a band's description names, in any of its spellings."""
    plain = re.sub(r"[^a-z0-9]", "", (description or "").lower())
    return next((role for role, spellings in _DESCRIBED.items() if plain in spellings), None)

"""Colormaps by name, each of 256 colours: the platform's own and rio-tiler's."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.domain.suggestions import hint

NO_COLORMAP = "none"
"""Stands for the values themselves instead of colours."""

DEFAULT_COLORMAP = "rdylgn"
"""Colours of a formula, if none are chosen."""

GREY_COLORMAP = "grayscale"
"""Colours of a single band without a formula, if none are chosen."""

OWN_COLOURS = "own"
"""Stands for the colour table of a palette raster; clients can't name it."""

ENTRIES = 256

# Colours at evenly spaced positions from the first entry to the last, joined linearly.
_EVEN_STOPS: Mapping[str, str] = MappingProxyType(
    {
        "rdylgn": "d73027 fdae61 fee08b a6d96a 1a9850",
        "spectral": "9e0142 fdae61 ffffbf 66c2a5 5e4fa2",
        "bugn": "f7fcfd b2e2e2 66c2a4 238b45 00441b",
        "ironbow": "000000 570f6a bd3754 f97808 ffe344 ffffff",
        "arctic": "000040 0064c8 64c8ff c8f0ff ffffff",
        "lava": "000000 800000 ff5000 ffc800 ffffc8",
        "terrain": "333399 00b4b4 a0d979 ecd87a a97443 ffffff",
        "grayscale": "000000 ffffff",
        "greys": "ffffff 000000",
        "whitehot": "000000 ffffff",
        "blackhot": "ffffff 000000",
    }
)
_RAINBOW_STOPS = "96005a 0000c8 0096ff 00ff00 ffff00 ff6400 c80000"
_RAINBOW_POSITIONS = (0.0, 0.17, 0.33, 0.5, 0.67, 0.83, 1.0)
_DISCRETE_NDVI = "8b0000 ff4500 ffd700 32cd32 006400"
_OWN = (*_EVEN_STOPS, "rainbow", "discrete_ndvi")


def colormap_names() -> tuple[str, ...]:
    """Every name that `colours_of` knows: the platform's own first, then rio-tiler's in alphabetical order."""
    return (*_OWN, *(name for name in sorted(_published()) if name not in _OWN))


def known_name(name: str) -> str:
    """The name of an existing colormap, or `none`, in lower case.

    Raises:
        InvalidInput: there is no such colormap (`unknown-colormap`).
    """
    known = name.strip().lower()
    if known != NO_COLORMAP and known not in _OWN and known not in _published():
        raise InvalidInput(
            f"There is no colormap {shown(name)}{hint(known, colormap_names())}. Choose none, {', '.join(_OWN)}, viridis, plasma, inferno, magma "
            "and the other names of rio-tiler's collection, also reversed with '_r'.",
            code="unknown-colormap",
        )
    return known


@cache
def colours_of(name: str) -> bytes:
    """The colormap as 256 × 3 bytes of red, green and blue, from the lowest value to the highest."""
    if name in _EVEN_STOPS:
        stops = _colours(_EVEN_STOPS[name])
        return _joined(stops, [position / (len(stops) - 1) for position in range(len(stops))])
    if name == "rainbow":
        return _joined(_colours(_RAINBOW_STOPS), _RAINBOW_POSITIONS)
    if name == "discrete_ndvi":
        steps = _colours(_DISCRETE_NDVI)
        last = ENTRIES - 1
        return b"".join(
            bytes(steps[min(entry * len(steps) // last, len(steps) - 1)]) for entry in range(ENTRIES)
        )
    return _published()[name]


def _colours(stops: str) -> list[tuple[int, int, int]]:
    return [(int(stop[:2], 16), int(stop[2:4], 16), int(stop[4:], 16)) for stop in stops.split()]


def _joined(stops: Sequence[tuple[int, int, int]], positions: Sequence[float]) -> bytes:
    """The stops joined linearly, each of 256 entries truncated to 8 bits."""
    table = bytearray()
    segment = 0
    for entry in range(ENTRIES):
        position = entry / (ENTRIES - 1)
        while segment < len(stops) - 2 and position > positions[segment + 1]:
            segment += 1
        span = positions[segment + 1] - positions[segment]
        share = (position - positions[segment]) / span
        for low, high in zip(stops[segment], stops[segment + 1], strict=True):
            # Rounded first: truncating 57.999999999, an artefact of the division, would lose a whole step.
            table.append(int(round(low + (high - low) * share, 9)))
    return bytes(table)


@cache
def _published() -> Mapping[str, bytes]:
    """The colormaps of rio-tiler's collection (written by `tests/raster/write_colormaps.py`)."""
    content = files("aerotask.raster").joinpath("colormaps.json").read_text(encoding="utf-8")
    packed = json.loads(content)
    colours = zlib.decompress(base64.b64decode(packed["rgb"]))
    size = ENTRIES * 3
    return MappingProxyType(
        {name: colours[index * size : (index + 1) * size] for index, name in enumerate(packed["names"])}
    )

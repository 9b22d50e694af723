"""Presets by name: RGB composites, indices, and thermal colormaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.domain.suggestions import hint


@dataclass(frozen=True, slots=True)
class Composite:
    """RGB composite of three band roles."""

    roles: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class IndexPreset:
    """Index by its id, as if given as the formula."""

    formula_id: str


@dataclass(frozen=True, slots=True)
class ThermalPreset:
    """Thermal band (or else the first band) in the preset's own colormap."""

    colormap: str


Preset = Composite | IndexPreset | ThermalPreset

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "true-color": Composite(("R", "G", "B")),
        "false-color-ir": Composite(("N", "R", "G")),
        "agriculture": Composite(("S1", "N", "B")),
        "geology": Composite(("S1", "S2", "R")),
        "moisture": Composite(("N", "S1", "G")),
        "urban": Composite(("S2", "S1", "R")),
        "red-edge": Composite(("N", "Re", "R")),
        "swir-composite": Composite(("S1", "N", "R")),
        "ndvi": IndexPreset("NDVI"),
        "ndwi": IndexPreset("NDWI"),
        "gndvi": IndexPreset("GNDVI"),
        "ndre": IndexPreset("NDRE"),
        "ironbow": ThermalPreset("ironbow"),
        "whitehot": ThermalPreset("whitehot"),
        "blackhot": ThermalPreset("blackhot"),
    }
)


def find_preset(name: str) -> Preset:
    """The preset of that name, in any case.

    Raises:
        InvalidInput: there is none (`unknown-preset`).
    """
    found = PRESETS.get(name.strip().lower())
    if found is None:
        raise InvalidInput(
            f"There is no preset {shown(name)}{hint(name, PRESETS)}; there are {', '.join(PRESETS)}.",
            code="unknown-preset",
        )
    return found

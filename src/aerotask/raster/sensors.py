"""Sensors recognised from a raster's header; the table of sensors is `sensors.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from aerotask.raster.profile import RasterProfile


@dataclass(frozen=True, slots=True)
class Sensor:
    """Sensor of one raster: `bands` holds a role, or an empty string, for each band."""

    name: str
    bands: tuple[str, ...]


def find_sensor(profile: RasterProfile) -> Sensor | None:
    """The first sensor of the list whose words, pixel types and band count fit the raster."""
    text = profile.metadata_text.lower()
    if not text:
        return None
    return next((found for row in _rows() if (found := _match(row, profile, text))), None)


def known_sensors() -> tuple[str, ...]:
    """The names of all sensors in the list."""
    return tuple(row["name"] for row in _rows())


def _match(row: dict[str, Any], profile: RasterProfile, text: str) -> Sensor | None:
    if not any(word in text for word in row["says"]):
        return None
    if profile.bands[0].dtype not in row.get("dtypes", [profile.bands[0].dtype]):
        return None
    layouts = (bands for bands in row["bands"] if len(bands) == len(profile.data_bands))
    return next((Sensor(row["name"], tuple(bands)) for bands in layouts), None)


@cache
def _rows() -> tuple[dict[str, Any], ...]:
    content = files("aerotask.raster").joinpath("sensors.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(content)["sensor"])

"""Camera pose: position, orientation, speed and accuracy, from EXIF and the drone maker's XMP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aerotask.metadata.photos.exif import EmbeddedMetadata
from aerotask.metadata.photos.values import first_number, number, text

# Factors to metres per second by the EXIF tag GPSSpeedRef: km/h, mph, knots.
_SPEED_UNITS = {"K": 1 / 3.6, "M": 0.44704, "N": 1852 / 3600}
_BELOW_SEA_LEVEL = (b"\x01", 1, "1")


@dataclass(frozen=True, slots=True)
class Position:
    """Position in WGS 84 degrees and metres above sea level (or the ellipsoid: cameras differ and don't say)."""

    longitude: float
    latitude: float
    altitude_m: float | None


@dataclass(frozen=True, slots=True)
class Orientation:
    """Orientation in degrees: yaw clockwise from north, pitch −90 straight down and 0 at the horizon."""

    yaw: float
    pitch: float
    roll: float


def position(embedded: EmbeddedMetadata) -> Position | None:
    """Camera position; (0, 0) counts as none, as receivers without a fix report it."""
    longitude, latitude = _coordinates(embedded)
    if longitude is None or latitude is None or abs(longitude) > 180 or abs(latitude) > 90:
        return None
    if longitude == 0 and latitude == 0:
        return None
    return Position(longitude, latitude, altitude(embedded))


def altitude(embedded: EmbeddedMetadata) -> float | None:
    """Altitude in metres above sea level or the ellipsoid."""
    height = number(embedded.gps.get("GPSAltitude"))
    if height is None:
        return first_number(embedded.xmp, "drone-dji:AbsoluteAltitude")
    return -height if embedded.gps.get("GPSAltitudeRef") in _BELOW_SEA_LEVEL else height


def height_above_ground(embedded: EmbeddedMetadata) -> float | None:
    """Height in metres above the take-off point (DJI) or the ground (Pix4D's tag: senseFly, Parrot)."""
    return first_number(embedded.xmp, "drone-dji:RelativeAltitude", "Camera:AboveGroundAltitude")


def orientation(embedded: EmbeddedMetadata) -> Orientation | None:
    """Camera orientation."""
    for prefix, suffix in (("drone-dji:Gimbal", "Degree"), ("drone-parrot:Camera", "Degree")):
        angles = _angles(embedded, prefix, suffix)
        if angles is not None:
            return Orientation(*angles)
    angles = _angles(embedded, "Camera:", "")
    if angles is None:
        return None
    yaw, pitch, roll = angles
    # Pix4D measures the pitch from straight down; senseFly's roll has the opposite sign.
    maker = text(embedded.exif.get("Make")) or ""
    return Orientation(yaw, pitch - 90, -roll if maker.lower() == "sensefly" else roll)


def flight(embedded: EmbeddedMetadata) -> dict[str, float]:
    """Aircraft attitude in degrees and speed in m/s, as properties."""
    properties: dict[str, float] = {}
    for name in ("Yaw", "Pitch", "Roll"):
        angle = first_number(embedded.xmp, f"drone-dji:Flight{name}Degree", f"drone-parrot:Drone{name}Degree")
        if angle is not None:
            properties[f"flight{name}"] = angle
    speed = _speed(embedded)
    return properties if speed is None else {**properties, "flightSpeed": speed}


def accuracy(embedded: EmbeddedMetadata) -> dict[str, float]:
    """Position accuracy in metres, as properties."""
    across = _largest(embedded, "drone-dji:RtkStdLat", "drone-dji:RtkStdLon")
    if across is None:
        across = first_number(embedded.xmp, "Camera:GPSXYAccuracy")
    if across is None:
        across = number(embedded.gps.get("GPSHPositioningError"))
    upwards = first_number(embedded.xmp, "drone-dji:RtkStdHgt", "Camera:GPSZAccuracy")
    dilution = number(embedded.gps.get("GPSDOP"))
    named = {"gpsXYAccuracy": across, "gpsZAccuracy": upwards, "gpsDop": dilution}
    return {name: value for name, value in named.items() if value is not None and value >= 0}


def _coordinates(embedded: EmbeddedMetadata) -> tuple[float | None, float | None]:
    longitude = _degrees(embedded.gps.get("GPSLongitude"), embedded.gps.get("GPSLongitudeRef"), "W")
    latitude = _degrees(embedded.gps.get("GPSLatitude"), embedded.gps.get("GPSLatitudeRef"), "S")
    if longitude is None or latitude is None:
        # Some of DJI's firmware misspells the tag.
        longitude = first_number(embedded.xmp, "drone-dji:GpsLongitude", "drone-dji:GpsLongtitude")
        latitude = first_number(embedded.xmp, "drone-dji:GpsLatitude")
    return longitude, latitude


def _degrees(parts: Any, side: Any, negative: str) -> float | None:
    """Degrees from degrees, minutes and seconds."""
    if not isinstance(parts, tuple) or not 1 <= len(parts) <= 3:
        return None
    values = [number(part) for part in parts]
    if any(value is None or value < 0 for value in values):
        return None
    degrees = math.fsum((value or 0.0) / 60**place for place, value in enumerate(values))
    return -degrees if str(side).upper().startswith(negative) else degrees


def _angles(embedded: EmbeddedMetadata, prefix: str, suffix: str) -> tuple[float, float, float] | None:
    yaw, pitch, roll = (
        number(embedded.xmp.get(f"{prefix}{name}{suffix}")) for name in ("Yaw", "Pitch", "Roll")
    )
    if yaw is None or pitch is None or max(abs(yaw), abs(pitch), abs(roll or 0.0)) > 360:
        return None
    return yaw, pitch, roll or 0.0


def _speed(embedded: EmbeddedMetadata) -> float | None:
    parts = [number(embedded.xmp.get(f"drone-dji:Flight{axis}Speed")) for axis in "XYZ"]
    known = [part for part in parts if part is not None]
    if known:
        return round(math.hypot(*known), 3)
    speed = number(embedded.gps.get("GPSSpeed"))
    unit = _SPEED_UNITS.get(str(embedded.gps.get("GPSSpeedRef", "K")).upper())
    return None if speed is None or unit is None else round(speed * unit, 3)


def _largest(embedded: EmbeddedMetadata, *names: str) -> float | None:
    values: Mapping[str, float | None] = {name: number(embedded.xmp.get(name)) for name in names}
    return max((value for value in values.values() if value is not None), default=None)

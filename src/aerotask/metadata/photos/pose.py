"""Camera pose: position, orientation, speed and accuracy, from EXIF and the drone maker's XMP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aerotask.metadata.photos.camera import make_of
from aerotask.metadata.photos.exif import EmbeddedMetadata
from aerotask.metadata.photos.values import first_number, number

# Factors to metres per second by the EXIF tag GPSSpeedRef: km/h, mph, knots.
_SPEED_UNITS = {"K": 1 / 3.6, "M": 0.44704, "N": 1852 / 3600}
_BELOW_SEA_LEVEL = (b"\x01", 1, "1")
# By the tags' names, and whether they measure the pitch from the horizon, as `Orientation` does.
_ANGLE_TAGS = (
    ("drone-dji:Gimbal{}Degree", True),
    ("drone-parrot:Camera{}Degree", True),
    ("drone-skydio:CameraOrientationNED/drone-skydio:{}", True),
    ("drone:Gimbal{}Degree", True),
    ("Camera:{}", False),
)
# Some of DJI's firmware misspells the tag.
_LONGITUDES = (
    *("drone-dji:GpsLongitude", "drone-dji:GpsLongtitude", "drone-dji:Longitude"),
    *("drone-skydio:Longitude", "drone:GpsLongitude"),
)
_LATITUDES = ("drone-dji:GpsLatitude", "drone-dji:Latitude", "drone-skydio:Latitude", "drone:GpsLatitude")
_FULL_TURN = 360.0
_LOWEST_PITCH, _HIGHEST_PITCH = -150.0, 90.0
"""Fixed cameras of climbing or sinking aircraft look up to 60° backwards from straight down."""


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
        return first_number(
            embedded.xmp,
            "drone-dji:AbsoluteAltitude",
            "drone-skydio:AbsoluteAltitude",
            "drone:AbsoluteAltitude",
        )
    return -height if embedded.gps.get("GPSAltitudeRef") in _BELOW_SEA_LEVEL else height


def height_above_ground(embedded: EmbeddedMetadata) -> float | None:
    """Height in metres above the take-off point (DJI, Skydio, Autel) or the ground (senseFly, Parrot, Sentera)."""
    return first_number(
        embedded.xmp,
        "drone-dji:RelativeAltitude",
        "drone-skydio:RelativeAltitude",
        "drone:RelativeAltitude",
        "Camera:AboveGroundAltitude",
        "Sentera:AltimeterCalculatedAGL",
    )


@dataclass(frozen=True, slots=True)
class CameraAngles:
    """Angles of the camera in degrees, as `Orientation` has them, as far as they are known."""

    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    is_plausible: bool = True
    """False if a tag has an angle that no camera has; then none is known."""

    @property
    def orientation(self) -> Orientation | None:
        """Orientation, for which the roll may be unknown: gimbals keep it at zero."""
        if self.yaw is None or self.pitch is None:
            return None
        return Orientation(self.yaw, self.pitch, self.roll or 0.0)


def camera_angles(embedded: EmbeddedMetadata) -> CameraAngles:
    """Camera angles, by the tags of the maker.

    Sources: ExifTool's tag names (DJI, Parrot), Pix4D's specification of the tags `Camera`, and OpenAthena's readers for
    Skydio and Autel.
    """
    for tags, is_degrees_below_horizon in _ANGLE_TAGS:
        yaw, pitch, roll = (number(embedded.xmp.get(tags.format(name))) for name in ("Yaw", "Pitch", "Roll"))
        if yaw is None and pitch is None:
            continue
        if not is_degrees_below_horizon:
            pitch, roll = _by_pix4d(embedded, pitch, roll)
        elif _lacks_gimbal(embedded, (yaw, pitch, roll)):
            return CameraAngles(is_plausible=False)
        return _plausible(yaw, pitch, roll)
    return CameraAngles()


def _by_pix4d(
    embedded: EmbeddedMetadata, pitch: float | None, roll: float | None
) -> tuple[float | None, float | None]:
    """Pitch and roll from Pix4D's tags, which measure the pitch from straight down; senseFly's roll has the opposite sign.

    Some of Autel's drones write the pitch from the horizon into the same tag (OpenAthenaIOS issue 62): negative values,
    which would otherwise mean that the camera looks backwards.
    """
    make = (make_of(embedded) or "").lower()
    if pitch is not None and not (make.startswith("autel") and pitch < 0):
        pitch -= 90
    return pitch, -roll if roll is not None and make == "sensefly" else roll


def _lacks_gimbal(embedded: EmbeddedMetadata, angles: tuple[float | None, ...]) -> bool:
    """Whether all angles are zero although the aircraft's aren't: DJI's Mini drones write no others."""
    flight_angles = [
        first_number(embedded.xmp, f"drone-dji:Flight{name}Degree") for name in ("Yaw", "Pitch", "Roll")
    ]
    return not any(angles) and any(flight_angles)


def _plausible(yaw: float | None, pitch: float | None, roll: float | None) -> CameraAngles:
    known = (
        (yaw, -_FULL_TURN, _FULL_TURN),
        (pitch, _LOWEST_PITCH, _HIGHEST_PITCH),
        (roll, -_FULL_TURN, _FULL_TURN),
    )
    if any(angle is not None and not lowest <= angle <= highest for angle, lowest, highest in known):
        return CameraAngles(is_plausible=False)
    return CameraAngles(yaw, pitch, roll)


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
        longitude = first_number(embedded.xmp, *_LONGITUDES)
        latitude = first_number(embedded.xmp, *_LATITUDES)
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

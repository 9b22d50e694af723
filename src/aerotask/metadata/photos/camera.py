"""Camera of a photo: make, model, focal length, sensor size and field of view."""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from aerotask.metadata.photos.exif import EmbeddedMetadata
from aerotask.metadata.photos.values import first_number, first_text, number, text

Size = tuple[float, float]
"""Width and height."""

# Millimetres of the EXIF tag FocalPlaneResolutionUnit: inch, centimetre, millimetre, micrometre.
_PLANE_UNITS_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
_LARGEST_SENSOR_MM = 200.0
# 35 mm equivalents are rounded to whole millimetres and refer to the uncropped diagonal.
_TOLERANCE = 0.15
_NO_MAKE = "camera"


@dataclass(frozen=True, slots=True)
class Camera:
    """Known properties of a camera; lengths in millimetres."""

    make: str | None
    model: str | None
    focal_length: float | None
    focal_length_35: float | None
    sensor_mm: Size | None
    focal_length_px: float | None
    """From the camera's calibration."""

    def to_properties(self) -> dict[str, object]:
        """The known values, under DroneDB's names."""
        width, height = self.sensor_mm or (None, None)
        both = [part.lower() for part in (self.make, self.model) if part]
        named = {
            "make": self.make,
            "model": self.model,
            "sensor": " ".join(both) or None,
            "focalLength": self.focal_length,
            "focalLength35": self.focal_length_35,
            "sensorWidth": width,
            "sensorHeight": height,
        }
        return {name: value for name, value in named.items() if value is not None}

    def field_of_view(self, image_px: tuple[int, int]) -> Size | None:
        """Horizontal and vertical field of view in degrees."""
        focal: float | None
        if self.focal_length_px:
            focal, (width, height) = self.focal_length_px, image_px
            return _angle(width, focal), _angle(height, focal)
        if not self.focal_length or self.sensor_mm is None:
            return None
        # An image whose aspect ratio differs from the sensor's is cropped at two sides.
        across, upright = self.sensor_mm
        shape = image_px[0] / image_px[1]
        if shape < 1 < across / upright:
            across, upright = upright, across
        used = (across, across / shape) if shape >= across / upright else (upright * shape, upright)
        return _angle(used[0], self.focal_length), _angle(used[1], self.focal_length)


def camera_of(embedded: EmbeddedMetadata, image_px: tuple[int, int]) -> Camera:
    """Camera of a photo of that size."""
    make = make_of(embedded)
    model = text(embedded.exif.get("Model")) or first_text(embedded.xmp, "tiff:Model")
    focal, focal_35 = _positive(embedded, "FocalLength"), _positive(embedded, "FocalLengthIn35mmFilm")
    by_equivalent = _sensor_by_equivalent(focal, focal_35, image_px) if focal and focal_35 else None
    # The file's own values come before the list of models: one model may have several cameras.
    claims = (_sensor_by_resolution(embedded, image_px), _known_sensor(model))
    sensor = next((size for size in claims if size and _agree(size, by_equivalent)), by_equivalent)
    return Camera(make, model, focal, focal_35, sensor, _calibrated(embedded, image_px))


def make_of(embedded: EmbeddedMetadata) -> str | None:
    """Maker of the camera; Autel's drones write the word "Camera" into EXIF, and their name into XMP only."""
    make, in_xmp = text(embedded.exif.get("Make")), first_text(embedded.xmp, "tiff:Make")
    return in_xmp if in_xmp and (make is None or make.lower() == _NO_MAKE) else make


@functools.cache
def _sensors() -> Mapping[str, Size]:
    listed = tomllib.loads(resources.files(__package__).joinpath("cameras.toml").read_text(encoding="utf-8"))
    return {model: (float(width), float(height)) for model, (width, height) in listed["cameras"].items()}


def _known_sensor(model: str | None) -> Size | None:
    return _sensors().get((model or "").upper())


def _sensor_by_resolution(embedded: EmbeddedMetadata, image_px: tuple[int, int]) -> Size | None:
    """Sensor size from the focal plane resolution."""
    unit = _PLANE_UNITS_MM.get(int(number(embedded.exif.get("FocalPlaneResolutionUnit")) or 2))
    across, upright = (
        _positive(embedded, "FocalPlaneXResolution"),
        _positive(embedded, "FocalPlaneYResolution"),
    )
    if unit is None or across is None or upright is None:
        return None
    size = image_px[0] / across * unit, image_px[1] / upright * unit
    return size if max(size) <= _LARGEST_SENSOR_MM else None


def _sensor_by_equivalent(focal: float, focal_35: float, image_px: tuple[int, int]) -> Size | None:
    """Sensor size from the 35 mm equivalent focal length, by the diagonal (CIPA DCG-001)."""
    diagonal_mm = _FULL_FRAME_DIAGONAL_MM * focal / focal_35
    diagonal_px = math.hypot(*image_px)
    size = diagonal_mm * image_px[0] / diagonal_px, diagonal_mm * image_px[1] / diagonal_px
    return size if max(size) <= _LARGEST_SENSOR_MM else None


def _agree(size: Size, by_equivalent: Size | None) -> bool:
    """Whether a sensor's diagonal matches the one implied by both focal lengths."""
    if by_equivalent is None:
        return True
    return abs(math.hypot(*size) / math.hypot(*by_equivalent) - 1) <= _TOLERANCE


def _calibrated(embedded: EmbeddedMetadata, image_px: tuple[int, int]) -> float | None:
    """Calibrated focal length in pixels (DJI, Skydio); None if it is implausible for the image's size."""
    focal = first_number(
        embedded.xmp,
        "drone-dji:CalibratedFocalLength",
        "drone-skydio:CalibratedFocalLength/drone-skydio:X",
    )
    longest = max(image_px)
    return focal if focal is not None and longest / 4 < focal < longest * 50 else None


def _positive(embedded: EmbeddedMetadata, tag: str) -> float | None:
    value = number(embedded.exif.get(tag))
    return value if value is not None and value > 0 else None


def _angle(extent: float, focal: float) -> float:
    return math.degrees(2 * math.atan(extent / (2 * focal)))

"""Multispectral tags of a photo: band name, wavelength and optical centre.

MicaSense, Parrot Sequoia and Sentera use the tags that Pix4D defined for cameras, with the principal point in
millimetres; DJI has its own, in pixels. The former are described in
https://support.pix4d.com/hc/en-us/articles/360016450032, the latter in DJI's image processing guides of the
P4 Multispectral and the Mavic 3M.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.metadata.photos.exif import EmbeddedMetadata, read_embedded
from aerotask.metadata.photos.xmp import XmpValue

PRINCIPAL_POINT = "principal point"
RELATIVE_OPTICAL_CENTRE = "relative optical centre"
OPTICAL_CENTRE = "optical centre"

Point = tuple[float, float]
"""x to the right and y down, in pixels."""

_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""Millimetres per unit of EXIF's FocalPlaneResolutionUnit (inch, centimetre, millimetre, micrometre)."""

BAND_NAMES = ("Camera:BandName", "drone-dji:BandName", "Sentera:BandName")
_WAVELENGTHS = ("Camera:CentralWavelength", "drone-dji:CentralWavelength", "drone-dji:BandFreq")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class OpticalCentre:
    """Pixel on the optical axis, or its offset from that of the camera's reference band.

    The difference between the centres of two bands of one capture is the shift between them, but only for centres of
    the same `kind`.
    """

    kind: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class LensMetadata:
    """Lens tags of an image: optical centre and band."""

    centre: OpticalCentre | None = None
    band_name: str | None = None
    wavelength_nm: float | None = None


def read_lens(path: Path, *, width: int, height: int) -> tuple[LensMetadata, EmbeddedMetadata]:
    """Reads the lens tags of an image of that size, and returns all its embedded metadata too.

    Raises:
        OSError: the file can't be read.
    """
    embedded = read_embedded(path)
    return lens_of(embedded, width=width, height=height), embedded


def lens_of(embedded: EmbeddedMetadata, *, width: int, height: int) -> LensMetadata:
    """Lens tags in the metadata of an image of that size."""
    xmp = embedded.xmp
    return LensMetadata(
        centre=_centre(embedded, (width, height)),
        band_name=next((name for key in BAND_NAMES if (name := _text(xmp.get(key)))), None),
        wavelength_nm=wavelength_nm(xmp),
    )


def wavelength_nm(xmp: Mapping[str, XmpValue]) -> float | None:
    """Central wavelength of the image's band; of several, the first."""
    return next((found[0] for key in _WAVELENGTHS if (found := _numbers(xmp.get(key)))), None)


def _centre(embedded: EmbeddedMetadata, size: tuple[int, int]) -> OpticalCentre | None:
    """Optical centre; DJI's relative one is preferred, as its absolute one is nominal and equal for all bands."""
    xmp = embedded.xmp
    relative = _pair(xmp, "drone-dji:RelativeOpticalCenterX", "drone-dji:RelativeOpticalCenterY")
    if relative:
        return OpticalCentre(RELATIVE_OPTICAL_CENTRE, *relative)
    point = _numbers(xmp.get("Camera:PrincipalPoint"))
    if len(point) == 2 and (in_px := _in_pixels((point[0], point[1]), embedded.exif, size)):
        return OpticalCentre(PRINCIPAL_POINT, *in_px)
    absolute = _pair(xmp, "drone-dji:CalibratedOpticalCenterX", "drone-dji:CalibratedOpticalCenterY")
    return OpticalCentre(OPTICAL_CENTRE, *absolute) if absolute else None


def _in_pixels(point: Point, exif: Mapping[str, Any], size: tuple[int, int]) -> Point | None:
    """Principal point in pixels, from millimetres, as the tag is defined, or from pixels, as some cameras write it.

    The unit is the one that puts the point into the middle half of the image.
    """
    unit_mm = _UNIT_MM.get(exif.get("FocalPlaneResolutionUnit", 2))
    across, down = exif.get("FocalPlaneXResolution"), exif.get("FocalPlaneYResolution")
    candidates = [point]
    if unit_mm and isinstance(across, int | float) and isinstance(down, int | float):
        candidates.insert(0, (point[0] * across / unit_mm, point[1] * down / unit_mm))
    return next((each for each in candidates if _is_near_the_middle(each, size)), None)


def _is_near_the_middle(point: Point, size: tuple[int, int]) -> bool:
    return all(0.25 * length < value < 0.75 * length for value, length in zip(point, size, strict=True))


def _pair(xmp: Mapping[str, XmpValue], x_key: str, y_key: str) -> Point | None:
    x, y = _numbers(xmp.get(x_key)), _numbers(xmp.get(y_key))
    return (x[0], y[0]) if len(x) == len(y) == 1 else None


def _numbers(value: XmpValue | None) -> tuple[float, ...]:
    """Finite numbers in a value, given as text or as a list."""
    text = value if isinstance(value, str) else " ".join(value or ())
    found = (float(number) for number in _NUMBER.findall(text[:200]))
    return tuple(number for number in found if math.isfinite(number))


def _text(value: XmpValue | None) -> str | None:
    """Band name, if there is exactly one."""
    if isinstance(value, tuple):
        value = value[0] if len(value) == 1 else None
    return value.strip()[:80] or None if value else None

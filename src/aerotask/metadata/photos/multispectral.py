"""What a multispectral camera writes into its pictures: which band one shows, and where its optical centre lies.

MicaSense, Parrot Sequoia and Sentera use the tags that Pix4D defined for cameras, with the principal point in
millimetres; DJI has its own, in pixels. https://support.pix4d.com/hc/en-us/articles/360016450032 describes the
former, DJI's image processing guides of the P4 Multispectral and the Mavic 3M the latter.
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
"""EXIF's FocalPlaneResolutionUnit: how many millimetres the unit has (inch, centimetre, millimetre, micrometre)."""

BAND_NAMES = ("Camera:BandName", "drone-dji:BandName", "Sentera:BandName")
_WAVELENGTHS = ("Camera:CentralWavelength", "drone-dji:CentralWavelength", "drone-dji:BandFreq")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class OpticalCentre:
    """The pixel on the camera's axis, or how far it is from that of the camera's reference band.

    Either way the differences between two bands of one capture say how far the one is moved against the other; but
    only between centres of the same `kind`.
    """

    kind: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class LensMetadata:
    """What a picture says of the lens that it was taken through."""

    centre: OpticalCentre | None = None
    band_name: str | None = None
    wavelength_nm: float | None = None


def read_lens(path: Path, *, width: int, height: int) -> tuple[LensMetadata, EmbeddedMetadata]:
    """The lens of a picture of that size, and all metadata that it was found in.

    Raises:
        OSError: the file can't be read at all.
    """
    embedded = read_embedded(path)
    return lens_of(embedded, width=width, height=height), embedded


def lens_of(embedded: EmbeddedMetadata, *, width: int, height: int) -> LensMetadata:
    """The lens that the metadata of a picture of that size tell of."""
    xmp = embedded.xmp
    return LensMetadata(
        centre=_centre(embedded, (width, height)),
        band_name=next((name for key in BAND_NAMES if (name := _text(xmp.get(key)))), None),
        wavelength_nm=wavelength_nm(xmp),
    )


def wavelength_nm(xmp: Mapping[str, XmpValue]) -> float | None:
    """The middle of the picture's band; of several, the first."""
    return next((found[0] for key in _WAVELENGTHS if (found := _numbers(xmp.get(key)))), None)


def _centre(embedded: EmbeddedMetadata, size: tuple[int, int]) -> OpticalCentre | None:
    """DJI's relative centre says more than its absolute one, which is the designed one and the same for all bands."""
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
    """A principal point in pixels: from millimetres, as the tag is defined, or from pixels, as some cameras write it.

    Which of the two it is shows in where the point lies: in the middle half of the picture.
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
    """The finite numbers in a value, whether it lists them in a text or in items."""
    text = value if isinstance(value, str) else " ".join(value or ())
    found = (float(number) for number in _NUMBER.findall(text[:200]))
    return tuple(number for number in found if math.isfinite(number))


def _text(value: XmpValue | None) -> str | None:
    """A name, if there is exactly one."""
    if isinstance(value, tuple):
        value = value[0] if len(value) == 1 else None
    return value.strip()[:80] or None if value else None

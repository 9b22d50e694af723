"""EXIF tags carried over to a result, as TIFF fields: position, time and camera of a photo."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from aerotask.raster.tiff.cog_layout import ImageFields
from aerotask.raster.tiff.directory import Field, FieldType, TagCode

_RATIONAL = 5
_LARGEST = 2**32 - 1
MAX_ITEMS = 8
MAX_TEXT_CHARS = 256


def carried_exif(exif: Mapping[str, Any]) -> ImageFields:
    """TIFF fields for EXIF tags by name, those of the GPS directory under `gps`; unsuitable values are left out."""
    position = exif.get("gps")
    directories = {
        TagCode.EXIF_DIRECTORY: _fields(exif, _PHOTO),
        TagCode.GPS_DIRECTORY: _fields(position if isinstance(position, Mapping) else {}, _POSITION),
    }
    return ImageFields(
        _fields(exif, _IMAGE), {int(code): fields for code, fields in directories.items() if fields}
    )


def _fields(values: Mapping[str, Any], table: Mapping[str, tuple[int, _Encoding]]) -> tuple[Field, ...]:
    encoded = ((code, encode(values.get(name))) for name, (code, encode) in table.items())
    return tuple(Field(code, *content) for code, content in encoded if content)


def _text(value: Any) -> tuple[int, bytes] | None:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return None
    return int(FieldType.ASCII), value[:MAX_TEXT_CHARS].encode() + b"\0"


def _rationals(value: Any) -> tuple[int, bytes] | None:
    items = value if isinstance(value, tuple) else (value,)
    if not 0 < len(items) <= MAX_ITEMS or not all(isinstance(item, int | float) for item in items):
        return None
    pairs = [Fraction(item).limit_denominator(1_000_000).as_integer_ratio() for item in items]
    if not all(0 <= number <= _LARGEST for pair in pairs for number in pair):
        return None
    return _RATIONAL, b"".join(struct.pack("<II", *pair) for pair in pairs)


def _bytes(value: Any) -> tuple[int, bytes] | None:
    if isinstance(value, int) and 0 <= value <= 255:
        return int(FieldType.BYTE), bytes([value])
    return (int(FieldType.BYTE), value) if isinstance(value, bytes) and 0 < len(value) <= MAX_ITEMS else None


def _short(value: Any) -> tuple[int, bytes] | None:
    if isinstance(value, int) and 0 <= value < 2**16:
        return int(FieldType.SHORT), struct.pack("<H", value)
    return None


_Encoding = Callable[[Any], tuple[int, bytes] | None]
"""Encodes a value as the kind and the data of a field; None for a value that doesn't fit."""

_IMAGE: Mapping[str, tuple[int, _Encoding]] = {
    "Make": (TagCode.MAKE, _text),
    "Model": (TagCode.MODEL, _text),
    "DateTime": (TagCode.DATE_TIME, _text),
}
_PHOTO: Mapping[str, tuple[int, _Encoding]] = {
    "DateTimeOriginal": (0x9003, _text),
    "DateTimeDigitized": (0x9004, _text),
    "OffsetTimeOriginal": (0x9011, _text),
    "SubsecTimeOriginal": (0x9291, _text),
    "FocalLength": (0x920A, _rationals),
    "FocalPlaneXResolution": (0xA20E, _rationals),
    "FocalPlaneYResolution": (0xA20F, _rationals),
    "FocalPlaneResolutionUnit": (0xA210, _short),
    "BodySerialNumber": (0xA431, _text),
}
_POSITION: Mapping[str, tuple[int, _Encoding]] = {
    "GPSVersionID": (0x00, _bytes),
    "GPSLatitudeRef": (0x01, _text),
    "GPSLatitude": (0x02, _rationals),
    "GPSLongitudeRef": (0x03, _text),
    "GPSLongitude": (0x04, _rationals),
    "GPSAltitudeRef": (0x05, _bytes),
    "GPSAltitude": (0x06, _rationals),
    "GPSTimeStamp": (0x07, _rationals),
    "GPSDOP": (0x0B, _rationals),
    "GPSImgDirectionRef": (0x10, _text),
    "GPSImgDirection": (0x11, _rationals),
    "GPSMapDatum": (0x12, _text),
    "GPSDateStamp": (0x1D, _text),
}

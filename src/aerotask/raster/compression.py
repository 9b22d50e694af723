"""Compressions of TIFF files that GDAL can't decode here, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping

_MISSING_CODEC = re.compile(r"missing codec (?:of code )?(\w+)")
_NAMES: Mapping[str, str] = {
    "JXL": "JPEG XL",
    "JP2000": "JPEG 2000",
    "LERC": "LERC",
    "34892": "lossy JPEG, as raw photos (DNG) have it",
    "34926": "JPEG XL",
    "50003": "JPEG XR",
    "22610": "JPEG XR",
    "34934": "JPEG XR",
    "34661": "JBIG",
    "34676": "SGI Log",
    "34677": "SGI Log",
    "34713": "Nikon's raw format (NEF)",
    "65535": "Pentax's raw format (PEF)",
}
"""Names by GDAL's own word or by the number in the file."""


def missing_compression(error_text: str) -> str | None:
    """The compression that GDAL's error says it can't decode; None if the error is another one."""
    if "Old-JPEG compression" in error_text:
        return "old-style JPEG (TIFF 6.0)"
    found = _MISSING_CODEC.search(error_text)
    if found is None:
        return None
    return _NAMES.get(found[1], f"number {found[1]}" if found[1].isdigit() else found[1])

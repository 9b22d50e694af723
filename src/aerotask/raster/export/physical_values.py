"""Physical values: the scale and offset of bands, and indices that need reflectances."""

from __future__ import annotations

from collections.abc import Sequence

from aerotask.raster.export.options import UnscaleMode
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.profile import RasterProfile, Scaling

HIGHEST_REFLECTANCE = 2.0
"""Reflectances are from 0 to 1, and somewhat more on glinting surfaces."""


def choose_scalings(mode: UnscaleMode, profile: RasterProfile, bands: Sequence[int]) -> tuple[Scaling, ...]:
    """Scale and offset of each band; none at all if the numbers in the file are to be used."""
    chosen = [profile.bands[band - 1] for band in bands]
    if mode == "false" or not any(band.is_scaled for band in chosen):
        return ()
    return tuple((band.scale, band.offset) for band in chosen)


def explain_scalings(bands: Sequence[int], scalings: Sequence[Scaling]) -> str:
    """The log line that says how physical values are computed."""
    listed = {
        scaling: [band for band, each in zip(bands, scalings, strict=True) if each == scaling]
        for scaling in dict.fromkeys(scalings)
    }
    parts = [
        f"number × {scale:g} {'-' if offset < 0 else '+'} {abs(offset):g} (band {', '.join(map(str, of))})"
        for (scale, offset), of in listed.items()
    ]
    return f"Computing on physical values: {'; '.join(parts)}."


def warn_of_numbers(title: str, profile: RasterProfile, bands: Sequence[int]) -> str | None:
    """The warning that an index for reflectances is computed on integers; None if a band isn't of integers."""
    types = dict.fromkeys(profile.bands[band - 1].dtype for band in bands)
    if any("int" not in dtype for dtype in types):
        return None
    return (
        f"{title} has constants for reflectances from 0 to 1, but the bands hold numbers of type {', '.join(types)} without a "
        "scale; divide them first, for example by 10000."
    )


def warn_of_range(title: str, bands: Sequence[int], ranges: Sequence[ValueRange]) -> str | None:
    """The warning that an index for reflectances is computed on other values; None if they may be reflectances."""
    for band, found in zip(bands, ranges, strict=True):
        if max(abs(found.low), abs(found.high)) > HIGHEST_REFLECTANCE:
            return (
                f"{title} has constants for reflectances from 0 to 1, but band {band} has values from {found.low:g} to "
                f"{found.high:g}, which can't be reflectances."
            )
    return None

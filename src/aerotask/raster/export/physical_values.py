"""Physical values: the scale and offset of bands, and indices that need reflectances."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aerotask.raster.export.options import UnscaleMode
from aerotask.raster.expression.indices import ValueRange
from aerotask.raster.profile import RasterProfile, Scaling

HIGHEST_REFLECTANCE = 2.0
"""Reflectances are from 0 to 1, and somewhat more on glinting surfaces."""

INT16_NODATA = -32768
INT16_MAX = 32767
"""The largest number that stands for a value; the smallest is −32767."""
_USUAL_RANGE, _USUAL_SCALING = ValueRange(-1, 1), (0.0001, 0.0)


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


def int16_scaling(values: ValueRange) -> Scaling:
    """Scale and offset by which Int16 numbers stand for the values of a range.

    For −1 to 1 they are 0.0001 and 0, as vegetation indices are usually stored. Otherwise the offset is the middle, and the
    scale the smallest of 1, 2 and 5 times a power of ten by which both ends fit.
    """
    if values == _USUAL_RANGE:
        return _USUAL_SCALING
    middle = values.low / 2 + values.high / 2
    least = max(values.high - middle, middle - values.low) / INT16_MAX
    if least == 0:
        return 1.0, middle
    exponent = math.floor(math.log10(least))
    scales = (float(f"{digit}e{exponent}") for digit in (1, 2, 5, 10))
    return next(scale for scale in scales if scale >= least), middle


def warn_of_clipped(clipped_px: int, scaling: Scaling) -> str:
    """The warning that pixels have values that the numbers can't stand for."""
    scale, offset = scaling
    low, high = offset - INT16_MAX * scale, offset + INT16_MAX * scale
    return (
        f"{clipped_px:,} pixels have values beyond {low:g} to {high:g}, which Int16 can hold with scale {scale:g} and offset "
        f"{offset:g}; they have the nearest of these values. Give a 'rescale' that spans all values, or take float32."
    )


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

"""Colours of points: LAS stores 16 bits per channel, and programs that write 8 show a black cloud (LAS 1.4 R15, 2.6.8)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aerotask.derivatives.copc.bounds import Records

_MAX_8_BIT = 255
_TO_16_BIT = 257
"""65,535 / 255."""
_GROUPS = (("red", "green", "blue"), ("nir",))
"""Channels that one program writes alike."""


def maxima(records: Records) -> dict[str, int]:
    """The highest value of each colour channel that the points have."""
    names = records.dtype.names or ()
    return {name: int(records[name].max()) for group in _GROUPS for name in group if name in names}


def eight_bit_channels(highest: Mapping[str, int]) -> tuple[str, ...]:
    """The channels whose highest values in the whole cloud say that they were written with 8 bits."""
    found: list[str] = []
    for group in _GROUPS:
        channels = [name for name in group if name in highest]
        if channels and 0 < max(highest[name] for name in channels) <= _MAX_8_BIT:
            found += channels
    return tuple(found)


def scale_to_16_bits(records: Records, channels: tuple[str, ...]) -> None:
    """Scales these 8-bit channels in place."""
    for name in channels:
        records[name] *= np.uint16(_TO_16_BIT)

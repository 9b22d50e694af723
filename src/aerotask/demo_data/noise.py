"""Noise: smooth, stateless random fields that can be computed anywhere on the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Area:
    """Rectangle of the plane, in pixels."""

    top: int
    left: int
    shape_yx: tuple[int, int]


def hashed(first: Ints, second: Ints | int, salt: int) -> Floats:
    """A number from 0 to 1 for each pair of integers: pseudo-random, with no state (arrays broadcast).

    The mixing steps are those of MurmurHash3's 32-bit finaliser (Appleby, public domain).
    """
    mixed = (
        np.asarray(first).astype(np.uint32) * np.uint32(0x9E3779B1)
        ^ np.asarray(second).astype(np.uint32) * np.uint32(0x85EBCA77)
        ^ np.uint32(salt * 0xC2B2AE3D & 0xFFFFFFFF)
    )
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return (mixed >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def smooth_noise(area: Area, *, step_px: int, salt: int) -> Floats:
    """Value noise from -1 to 1 on a part of the plane, whose features are about `step_px` wide."""
    row_line, row_share = _between(area.top, area.shape_yx[0], step_px)
    col_line, col_share = _between(area.left, area.shape_yx[1], step_px)
    rows = np.arange(row_line[0], row_line[-1] + 2)[:, None]
    cols = np.arange(col_line[0], col_line[-1] + 2)[None, :]
    lattice = hashed(rows, cols, salt) * np.float32(2) - np.float32(1)
    by_row = _blend(lattice, row_line - row_line[0], row_share[:, None], axis=0)
    return _blend(by_row, col_line - col_line[0], col_share[None, :], axis=1)


def layered_noise(area: Area, *, steps_px: tuple[int, ...], salt: int, falloff: float = 0.5) -> Floats:
    """Several layers of `smooth_noise`, each fainter than the one before it, scaled to stay within -1 to 1."""
    total = np.zeros(area.shape_yx, np.float32)
    strength, sum_of_strengths = 1.0, 0.0
    for number, step_px in enumerate(steps_px):
        total += smooth_noise(area, step_px=step_px, salt=salt + number) * np.float32(strength)
        sum_of_strengths += strength
        strength *= falloff
    total /= np.float32(sum_of_strengths)
    return total


def _between(start: int, length: int, step: int) -> tuple[Ints, Floats]:
    """The lattice line before each pixel, and the pixel's eased position between that line and the next."""
    position = (np.arange(start, start + length) + 0.5) / step
    line = np.floor(position).astype(np.int64)
    share = (position - line).astype(np.float32)
    return line, share * share * (3 - 2 * share)


def _blend(lattice: Floats, line: Ints, share: Floats, *, axis: int) -> Floats:
    """The lattice's lines along an axis, blended at each pixel with the next."""
    before, after = np.take(lattice, line, axis=axis), np.take(lattice, line + 1, axis=axis)
    after -= before
    after *= share
    after += before
    return after

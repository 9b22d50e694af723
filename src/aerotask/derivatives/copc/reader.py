"""Opens LAS and LAZ files from outside, and reads them in pieces."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import laspy
import laspy.errors
import lazrs
import numpy as np

from aerotask.derivatives.copc.bounds import Records
from aerotask.derivatives.copc.records import converted, copc_format
from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.las_records import MAX_INFLATION, wkt_after_points

PIECE_POINTS = 500_000
"""How many points are decoded at a time."""

_HEADER = struct.Struct("<4s20xBB68xHII")
_VLR_BYTES = 54


@dataclass(frozen=True, slots=True)
class CloudFile:
    """An opened cloud: `pieces` reads it from the start."""

    header: Any
    """laspy's header of the file."""
    target_format: laspy.PointFormat
    pieces: Callable[[], Iterator[Records]]
    long_wkt: str | None = None
    """The coordinate system from a record behind the points."""

    @property
    def points(self) -> int:
        """How many points the file says it has, and has if `pieces` ends well."""
        return int(self.header.point_count)

    @property
    def scales(self) -> tuple[float, ...]:
        """The length of a stored unit along each axis."""
        return tuple(float(scale) for scale in self.header.scales)

    @property
    def offsets(self) -> tuple[float, ...]:
        """What is added to each scaled coordinate."""
        return tuple(float(offset) for offset in self.header.offsets)

    @property
    def record_bytes(self) -> int:
        """Of one point in the target's format."""
        return int(self.target_format.size)


def open_cloud(path: Path) -> CloudFile:
    """Look into the header of the LAS or LAZ file at `path`.

    Raises:
        InvalidInput: it is none, declares more than it can hold, or holds no points (`unreadable-cloud`); its points
            are of a kind that COPC has no place for (`unsupported-layout`).
    """
    _check_signature(path)
    # The records behind the points are read by us: laspy believes their number, whatever it is.
    with _readable(path), laspy.open(path, read_evlrs=False) as reader:
        header = reader.header
    declared_bytes = header.point_count * header.point_format.size
    if not header.point_count:
        raise _unreadable(path, "it holds no points")
    if declared_bytes > path.stat().st_size * MAX_INFLATION:
        raise _unreadable(path, f"it declares {header.point_count:,} points, more than such a file can hold")
    if not all(np.isfinite([*header.scales, *header.offsets])) or not all(header.scales > 0):
        raise _unreadable(path, "its scales and offsets make no sense")
    target = copc_format(header.point_format)
    with path.open("rb") as file:
        long_wkt = wkt_after_points(file, header)
    return CloudFile(header, target, lambda: _pieces(path, header.point_count, target), long_wkt)


def _pieces(path: Path, points: int, target: laspy.PointFormat) -> Iterator[Records]:
    done = 0
    with _readable(path), laspy.open(path, read_evlrs=False) as reader:
        for piece in reader.chunk_iterator(PIECE_POINTS):
            done += len(piece)
            yield converted(piece.array, reader.header.point_format, target)
    if done != points:
        raise _unreadable(path, f"it ends after {done:,} of {points:,} points")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What laspy and lazrs say of a damaged file, as one error.

    `lazrs` panics on some: that is a BaseException of a class which can't be imported.
    """
    try:
        yield
    except (laspy.errors.LaspyException, lazrs.LazrsError, struct.error, EOFError) as error:
        raise _unreadable(path, "it is damaged or incomplete") from error
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, OSError) as error:
        if isinstance(error, InvalidInput) or getattr(error, "errno", None):
            raise
        raise _unreadable(path, "it is damaged or incomplete") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise _unreadable(path, "it is damaged or incomplete") from error


def _check_signature(path: Path) -> None:
    """Before laspy trusts it: the kind of file, and that its records lie where they can."""
    with path.open("rb") as content:
        start = content.read(_HEADER.size)
    if not start:
        raise _unreadable(path, "it is empty")
    if len(start) < _HEADER.size or not start.startswith(b"LASF"):
        raise _unreadable(path, "it doesn't begin like a LAS or LAZ file")
    _signature, _major, minor, header_bytes, points_at, vlrs = _HEADER.unpack(start)
    if minor > 4 or header_bytes > points_at or vlrs * _VLR_BYTES > points_at - header_bytes:
        raise _unreadable(path, "its header is damaged")
    if points_at > path.stat().st_size:
        raise _unreadable(path, "it ends before its first point")


def _unreadable(path: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{shown(path.name)} is not a readable point cloud: {why}. Upload it again.", code="unreadable-cloud"
    )

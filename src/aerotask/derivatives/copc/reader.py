"""Reader for untrusted LAS and LAZ files, in chunks of points."""

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

CHUNK_POINTS = 500_000
"""Number of points decoded at a time."""

_HEADER = struct.Struct("<4s20xBB68xHII")
_VLR_BYTES = 54


@dataclass(frozen=True, slots=True)
class CloudFile:
    """Opened cloud: `chunks` reads it from the start."""

    header: Any
    """The file's header, as laspy's object."""
    target_format: laspy.PointFormat
    chunks: Callable[[], Iterator[Records]]
    long_wkt: str | None = None
    """Coordinate system from an extended record (EVLR) after the points."""

    @property
    def points(self) -> int:
        """Number of points by the header, which `chunks` verifies."""
        return int(self.header.point_count)

    @property
    def scales(self) -> tuple[float, ...]:
        """Length of a stored unit along each axis."""
        return tuple(float(scale) for scale in self.header.scales)

    @property
    def offsets(self) -> tuple[float, ...]:
        """Offset added to the scaled coordinates of each axis."""
        return tuple(float(offset) for offset in self.header.offsets)

    @property
    def record_bytes(self) -> int:
        """Size of a point record in the target's format."""
        return int(self.target_format.size)


def open_cloud(path: Path) -> CloudFile:
    """Read and check the header of the LAS or LAZ file at `path`.

    Raises:
        InvalidInput: it is no such file, declares more points than fit into it, or has none (`unreadable-cloud`); COPC
            doesn't support its point format (`unsupported-layout`).
    """
    _check_signature(path)
    # Extended records are read by our own code: laspy trusts their number, whatever it is.
    with _laspy_errors(path), laspy.open(path, read_evlrs=False) as reader:
        header = reader.header
    declared_bytes = header.point_count * header.point_format.size
    if not header.point_count:
        raise _unreadable(path, "it has no points")
    if declared_bytes > path.stat().st_size * MAX_INFLATION:
        raise _unreadable(
            path, f"it declares {header.point_count:,} points, more than fit into a file of its size"
        )
    if not all(np.isfinite([*header.scales, *header.offsets])) or not all(header.scales > 0):
        raise _unreadable(path, "its scales or offsets are invalid")
    target = copc_format(header.point_format)
    with path.open("rb") as file:
        long_wkt = wkt_after_points(file, header)
    return CloudFile(header, target, lambda: _chunks(path, header.point_count, target), long_wkt)


def _chunks(path: Path, points: int, target: laspy.PointFormat) -> Iterator[Records]:
    done = 0
    with _laspy_errors(path), laspy.open(path, read_evlrs=False) as reader:
        for chunk in reader.chunk_iterator(CHUNK_POINTS):
            done += len(chunk)
            yield converted(chunk.array, reader.header.point_format, target)
    if done != points:
        raise _unreadable(path, f"it ends after {done:,} of {points:,} points")


@contextmanager
def _laspy_errors(path: Path) -> Iterator[None]:
    """Translate errors of laspy and lazrs on a damaged file to `InvalidInput`.

    `lazrs` panics on some files with a BaseException whose class can't be imported.
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
    """Check the signature and the offsets in the header, which laspy would trust."""
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


def _unreadable(path: Path, reason: str) -> InvalidInput:
    return InvalidInput(
        f"{shown(path.name)} is not a readable point cloud: {reason}. Upload it again.",
        code="unreadable-cloud",
    )

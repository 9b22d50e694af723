"""What the header of a point cloud (LAS, LAZ, E57) tells: how many points, of what kind, and where."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from laspy import LaspyException
from laspy.header import LasHeader
from rasterio.crs import CRS
from rasterio.errors import CRSError

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.geojson import Footprint, place_of_bounds
from aerotask.metadata.las_records import MAX_INFLATION, wkt_behind_points

MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Everything before the points: the header and its variable-length records."""
MAX_RECORDS = 10_000

_HEADER = struct.Struct("<4s90xHLLBHL")
_VLR_HEADER_BYTES = 54
_CHUNKED_COMPRESSORS = frozenset({2, 3})
_E57_HEADER = struct.Struct("<8sLLQQQQ")
_VARIABLE_CHUNKS = 2**32 - 1
_SENSIBLE_CHUNK_POINTS = 10_000_000
# GeoTIFF keys (OGC 19-008r4, 7.1 and 7.5): what kind of CRS, and its code; beyond the range they are no EPSG codes.
_MODEL_KEY, _PROJECTED_KEY, _GEOGRAPHIC_KEY = 1024, 3072, 2048
_GEOGRAPHIC_MODEL = 2
_EPSG_CODES = range(1024, 32_767)


@dataclass(frozen=True, slots=True)
class PointCloudMetadata:
    """What was found, with the place where the cloud says its CRS."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    place: Footprint | None = None


def describe(path: Path) -> PointCloudMetadata:
    """Read the header of the cloud at `path`; no point is decoded.

    Raises:
        InvalidInput: it is no point cloud (`unreadable-cloud`), or a part of it is missing (`damaged-cloud`).
    """
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
        if start.startswith(b"ASTM-E57"):
            return _describe_e57(start + file.read(16), file_bytes)
        if not start.startswith(b"LASF"):
            raise _unreadable(path, "it is empty" if not start else "it is neither LAS, LAZ nor E57")
        header = _header(path, file, start)
        _refuse_incomplete(header, file, file_bytes)
        crs = _crs(header) or _crs_of_wkt(wkt_behind_points(file, header))
    return _described(header, crs)


def _header(path: Path, file: BinaryIO, start: bytes) -> LasHeader:
    if len(start) < _HEADER.size:
        raise _damaged("the file ends within its header")
    _, header_bytes, points_at, records, *_ = _HEADER.unpack(start)
    if points_at > MAX_HEADER_BYTES or records > MAX_RECORDS:
        raise _unreadable(path, f"its header claims {points_at:,} bytes and {records:,} records")
    if records * _VLR_HEADER_BYTES > points_at - header_bytes:
        raise _unreadable(path, f"its header has no room for the {records:,} records that it claims")
    file.seek(0)
    head = file.read(points_at)
    if len(head) < points_at:
        raise _damaged("the file ends within its header")
    try:
        return LasHeader.read_from(io.BytesIO(head))
    # Whatever laspy stumbles over in a header that lies: an AssertionError, a struct.error, a ctypes error …
    except (LaspyException, ValueError, LookupError, TypeError, AssertionError, struct.error) as error:
        raise _unreadable(path, "its header makes no sense") from error


def _refuse_incomplete(header: LasHeader, file: BinaryIO, file_bytes: int) -> None:
    """Tell an upload that was cut, without decoding: the end of the points has to be in the file."""
    if not header.are_points_compressed:
        end = header.offset_to_point_data + header.point_count * header.point_format.size
        if end > file_bytes:
            raise _damaged(
                f"it claims {header.point_count:,} points, which take {end:,} bytes, and has {file_bytes:,}"
            )
        return
    if header.point_count * header.point_format.size > file_bytes * MAX_INFLATION:
        raise _damaged(f"it claims {header.point_count:,} points, more than {file_bytes:,} bytes can hold")
    if header.point_count == 0 or not _is_chunked(header):
        return
    # LAZ begins its points with the place of the table of chunks, or −1 and has it in its last 8 bytes.
    file.seek(header.offset_to_point_data)
    table_at = _signed(file.read(8))
    if table_at == -1:
        file.seek(-8, io.SEEK_END)
        table_at = _signed(file.read(8))
    if not header.offset_to_point_data < table_at <= file_bytes - 8:
        raise _damaged("the table of its compressed points lies beyond the end of the file")
    file.seek(table_at)
    _, chunks = struct.unpack("<LL", file.read(8))
    most = chunks * _chunk_points(header)
    if header.point_count > most:
        raise _damaged(f"it claims {header.point_count:,} points, and has places for {most:,}")


def _is_chunked(header: LasHeader) -> bool:
    data = _laszip(header)
    return len(data) >= 2 and struct.unpack_from("<H", data)[0] in _CHUNKED_COMPRESSORS


def _chunk_points(header: LasHeader) -> int:
    """How many points a chunk may hold; chunks of varying size say it only where they are."""
    data = _laszip(header)
    points = int(struct.unpack_from("<L", data, 12)[0]) if len(data) >= 16 else _VARIABLE_CHUNKS
    return _SENSIBLE_CHUNK_POINTS if points == _VARIABLE_CHUNKS else points


def _laszip(header: LasHeader) -> bytes:
    """The record that says how the points are compressed."""
    records = header.vlrs.get("LasZipVlr")
    return bytes(records[0].record_data) if records else b""


def _signed(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True) if len(raw) == 8 else 0


def _described(header: LasHeader, crs: str | None) -> PointCloudMetadata:
    bounds = [float(value) for value in (*header.mins, *header.maxs)]
    properties: dict[str, Any] = {
        "format": "laz" if header.are_points_compressed else "las",
        "version": str(header.version),
        "pointFormat": header.point_format.id,
        "pointCount": header.point_count,
        "dimensions": [str(name)[:64] for name in header.point_format.dimension_names][:256],
        "crs": crs,
        "software": _text(header.generating_software),
        "isCopc": any(record.user_id == "copc" for record in header.vlrs),
    }
    if header.creation_date is not None:
        properties["created"] = header.creation_date.isoformat()
    is_placed = header.point_count > 0 and all(map(math.isfinite, bounds))
    if is_placed:
        properties["bounds"] = bounds
    place = place_of_bounds(crs, (bounds[0], bounds[1], bounds[3], bounds[4])) if crs and is_placed else None
    return PointCloudMetadata(properties, place)


def _text(value: str | bytes) -> str:
    """Laspy gives the bytes where they are no UTF-8."""
    shown = value.decode("latin-1") if isinstance(value, bytes) else value
    return shown.split("\0", 1)[0].strip()[:200]


def _crs(header: LasHeader) -> str | None:
    """`EPSG:…` where the CRS has a code, else WKT; None if the cloud says none that is known."""
    for record in header.vlrs.get("WktCoordinateSystemVlr"):
        if crs := _crs_of_wkt(record.string):
            return crs
    keys = {
        key.id: key.value_offset
        for record in header.vlrs.get("GeoKeyDirectoryVlr")
        for key in record.geo_keys
        if key.tiff_tag_location == 0  # else it is a place in another record
    }
    # A projected CRS of somebody's own also names the geographic one that it is based on: its metres are not degrees.
    is_geographic = (
        _PROJECTED_KEY not in keys and keys.get(_MODEL_KEY, _GEOGRAPHIC_MODEL) == _GEOGRAPHIC_MODEL
    )
    code = keys.get(_GEOGRAPHIC_KEY if is_geographic else _PROJECTED_KEY, 0)
    return f"EPSG:{code}" if code in _EPSG_CODES else None


def _crs_of_wkt(wkt: str | None) -> str | None:
    if not wkt:
        return None
    try:
        crs = CRS.from_wkt(wkt)
        code = crs.to_epsg()
    except CRSError:
        return None
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def _describe_e57(start: bytes, file_bytes: int) -> PointCloudMetadata:
    """ASTM E2807: the header says how long the file is; what it holds is in an XML section at its end."""
    if len(start) < _E57_HEADER.size:
        raise _damaged("the file ends within its header")
    _, major, minor, length, xml_at, xml_bytes, _ = _E57_HEADER.unpack_from(start)
    if length > file_bytes or xml_at + xml_bytes > file_bytes:
        raise _damaged(f"it claims {length:,} bytes and has {file_bytes:,}")
    return PointCloudMetadata({"format": "e57", "version": f"{major}.{minor}"})


def _unreadable(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{shown(path.name)} is not a readable point cloud: {why}.", code="unreadable-cloud")


def _damaged(why: str) -> InvalidInput:
    return InvalidInput(f"The point cloud is incomplete: {why}. Upload it again.", code="damaged-cloud")

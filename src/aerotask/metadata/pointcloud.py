"""Metadata of point clouds (LAS, LAZ, E57) from their headers: point count, format, extent and CRS."""

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
from aerotask.metadata.geojson import Footprint, footprint_of_bounds
from aerotask.metadata.las_records import MAX_INFLATION, wkt_after_points

MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Size of everything before the points: the header and its variable-length records."""
MAX_RECORDS = 10_000

_HEADER = struct.Struct("<4s90xHLLBHL")
_VLR_HEADER_BYTES = 54
_CHUNKED_COMPRESSORS = frozenset({2, 3})
_E57_HEADER = struct.Struct("<8sLLQQQQ")
_VARIABLE_CHUNKS = 2**32 - 1
_SENSIBLE_CHUNK_POINTS = 10_000_000
# GeoTIFF keys (OGC 19-008r4, 7.1 and 7.5): the kind of CRS and its code; outside the range it is not an EPSG code.
_MODEL_KEY, _PROJECTED_KEY, _GEOGRAPHIC_KEY = 1024, 3072, 2048
_GEOGRAPHIC_MODEL = 2
_EPSG_CODES = range(1024, 32_767)


@dataclass(frozen=True, slots=True)
class PointCloudMetadata:
    """Properties of a point cloud, with its footprint if its CRS is known."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    footprint: Footprint | None = None


def extract_point_cloud(path: Path) -> PointCloudMetadata:
    """Extracts the metadata of the point cloud at `path` from its header; no point is decoded.

    Raises:
        InvalidInput: it is not a point cloud (`unreadable-cloud`), or a part of it is missing (`damaged-cloud`).
    """
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
        if start.startswith(b"ASTM-E57"):
            return _e57(start + file.read(16), file_bytes)
        if not start.startswith(b"LASF"):
            raise _unreadable(path, "it is empty" if not start else "it is neither LAS, LAZ nor E57")
        header = _header(path, file, start)
        _raise_if_incomplete(header, file, file_bytes)
        crs = _crs(header) or _crs_of_wkt(wkt_after_points(file, header))
    return _metadata(header, crs)


def _header(path: Path, file: BinaryIO, start: bytes) -> LasHeader:
    if len(start) < _HEADER.size:
        raise _damaged("the file ends within its header")
    _, header_bytes, points_offset, records, *_ = _HEADER.unpack(start)
    if points_offset > MAX_HEADER_BYTES or records > MAX_RECORDS:
        raise _unreadable(path, f"its header declares {points_offset:,} bytes and {records:,} records")
    if records * _VLR_HEADER_BYTES > points_offset - header_bytes:
        raise _unreadable(path, f"its header is too short for the {records:,} records that it declares")
    file.seek(0)
    head = file.read(points_offset)
    if len(head) < points_offset:
        raise _damaged("the file ends within its header")
    try:
        return LasHeader.read_from(io.BytesIO(head))
    # laspy raises all kinds of errors for invalid headers: AssertionError, struct.error, ctypes errors …
    except (LaspyException, ValueError, LookupError, TypeError, AssertionError, struct.error) as error:
        raise _unreadable(path, "its header is invalid") from error


def _raise_if_incomplete(header: LasHeader, file: BinaryIO, file_bytes: int) -> None:
    """Detects a truncated upload without decoding it: the end of the points has to be in the file."""
    if not header.are_points_compressed:
        end = header.offset_to_point_data + header.point_count * header.point_format.size
        if end > file_bytes:
            raise _damaged(
                f"it declares {header.point_count:,} points, which take {end:,} bytes, but has {file_bytes:,}"
            )
        return
    if header.point_count * header.point_format.size > file_bytes * MAX_INFLATION:
        raise _damaged(f"it declares {header.point_count:,} points, more than {file_bytes:,} bytes can hold")
    if header.point_count == 0 or not _is_chunked(header):
        return
    # The points of LAZ begin with the offset of the chunk table, or −1 if the offset is in the last 8 bytes.
    file.seek(header.offset_to_point_data)
    table_offset = _signed(file.read(8))
    if table_offset == -1:
        file.seek(-8, io.SEEK_END)
        table_offset = _signed(file.read(8))
    if not header.offset_to_point_data < table_offset <= file_bytes - 8:
        raise _damaged("the chunk table of its compressed points is beyond the end of the file")
    file.seek(table_offset)
    _, chunks = struct.unpack("<LL", file.read(8))
    capacity = chunks * _chunk_points(header)
    if header.point_count > capacity:
        raise _damaged(f"it declares {header.point_count:,} points, but its chunks hold {capacity:,}")


def _is_chunked(header: LasHeader) -> bool:
    data = _laszip(header)
    return len(data) >= 2 and struct.unpack_from("<H", data)[0] in _CHUNKED_COMPRESSORS


def _chunk_points(header: LasHeader) -> int:
    """Maximum points per chunk; chunks of variable size state it only in the chunk table."""
    data = _laszip(header)
    points = int(struct.unpack_from("<L", data, 12)[0]) if len(data) >= 16 else _VARIABLE_CHUNKS
    return _SENSIBLE_CHUNK_POINTS if points == _VARIABLE_CHUNKS else points


def _laszip(header: LasHeader) -> bytes:
    """The LASzip record, which describes the compression of the points."""
    records = header.vlrs.get("LasZipVlr")
    return bytes(records[0].record_data) if records else b""


def _signed(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True) if len(raw) == 8 else 0


def _metadata(header: LasHeader, crs: str | None) -> PointCloudMetadata:
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
    has_bounds = header.point_count > 0 and all(map(math.isfinite, bounds))
    if has_bounds:
        properties["bounds"] = bounds
    footprint = (
        footprint_of_bounds(crs, (bounds[0], bounds[1], bounds[3], bounds[4])) if crs and has_bounds else None
    )
    return PointCloudMetadata(properties, footprint)


def _text(value: str | bytes) -> str:
    """Text of a header field; laspy returns bytes if it is not UTF-8."""
    shown = value.decode("latin-1") if isinstance(value, bytes) else value
    return shown.split("\0", 1)[0].strip()[:200]


def _crs(header: LasHeader) -> str | None:
    """CRS as `EPSG:…` if it has a code, else as WKT; None if the cloud has no known CRS."""
    for record in header.vlrs.get("WktCoordinateSystemVlr"):
        if crs := _crs_of_wkt(record.string):
            return crs
    keys = {
        key.id: key.value_offset
        for record in header.vlrs.get("GeoKeyDirectoryVlr")
        for key in record.geo_keys
        if key.tiff_tag_location == 0  # otherwise it is an offset into another record
    }
    # A user-defined projected CRS also names its geographic base CRS, but its coordinates are metres, not degrees.
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


def _e57(start: bytes, file_bytes: int) -> PointCloudMetadata:
    """Reads an E57 header (ASTM E2807), which states the file's length; its contents are described in XML at the end."""
    if len(start) < _E57_HEADER.size:
        raise _damaged("the file ends within its header")
    _, major, minor, length, xml_offset, xml_bytes, _ = _E57_HEADER.unpack_from(start)
    if length > file_bytes or xml_offset + xml_bytes > file_bytes:
        raise _damaged(f"it declares {length:,} bytes but has {file_bytes:,}")
    return PointCloudMetadata({"format": "e57", "version": f"{major}.{minor}"})


def _unreadable(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{shown(path.name)} is not a readable point cloud: {why}.", code="unreadable-cloud")


def _damaged(why: str) -> InvalidInput:
    return InvalidInput(f"The point cloud is incomplete: {why}. Upload it again.", code="damaged-cloud")

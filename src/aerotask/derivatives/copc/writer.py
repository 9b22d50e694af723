"""COPC writer: LAS 1.4 header, COPC records, a LAZ chunk per node, and the hierarchy at the end.

Layouts are those of LAS 1.4 R15 (tables 3, 6 and 10) and COPC 1.0. ADR 10 compares it with copclib.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import lazrs
import numpy as np

from aerotask.derivatives.copc.bounds import Cube, NodeKey
from aerotask.derivatives.copc.octree import GRID, Node
from aerotask.derivatives.copc.reader import CloudFile

_HEADER = struct.Struct("<4sHH16sBB32s32sHHHIIBHI5I3d3d6dQQIQ15Q")
_RECORD_HEAD = struct.Struct("<H16sHH32s")
_LONG_RECORD_HEAD = struct.Struct("<H16sHQ32s")
_INFO = struct.Struct("<3d2d2Q2d11Q")
_ENTRY = struct.Struct("<4iQii")
_TABLE_OFFSET_BYTES = 8

_WKT = ("LASF_Projection", 2112)
_EXTRA_BYTES = ("LASF_Spec", 4)
_LAZ = ("laszip encoded", 22204)
_KEPT_RECORDS = frozenset({_WKT, _EXTRA_BYTES})
_IS_LAZ = 0x80
_HAS_WKT = 1 << 4
_GPS_TIME_BITS = 0b1

BATCH_POINTS = 500_000
"""Nodes are compressed in parallel once they have this many points together."""


@dataclass(slots=True)
class CopcWriter:
    """Writer for the nodes of a COPC; `copc_file` opens and completes it."""

    target: BinaryIO
    cloud: CloudFile
    cube: Cube
    _compressor: Any
    written: list[tuple[NodeKey, int]] = field(default_factory=list)
    minimum: list[int] = field(default_factory=lambda: [2**31] * 3)
    maximum: list[int] = field(default_factory=lambda: [-(2**31)] * 3)
    by_return: list[int] = field(default_factory=lambda: [0] * 16)
    gps_times: list[float] = field(default_factory=list)
    _pending: list[Node] = field(default_factory=list)

    @property
    def points(self) -> int:
        """Number of points added so far."""
        return sum(count for _, count in self.written)

    def add(self, node: Node) -> None:
        """Add a node; it is compressed later, together with others."""
        self._update_statistics(node)
        self._pending.append(node)
        if sum(len(pending.records) for pending in self._pending) >= BATCH_POINTS:
            self.flush()

    def flush(self) -> None:
        """Compress the pending nodes, each as a chunk."""
        if self._pending:
            self._compressor.compress_chunks([_bytes_of(node) for node in self._pending])
            self._pending.clear()

    def _update_statistics(self, node: Node) -> None:
        records = node.records
        self.written.append((node.key, len(records)))
        for axis, name in enumerate("XYZ"):
            self.minimum[axis] = min(self.minimum[axis], int(records[name].min()))
            self.maximum[axis] = max(self.maximum[axis], int(records[name].max()))
        for number, count in enumerate(np.bincount(records["bit_fields"] & 0b1111)):
            self.by_return[number] += int(count)
        times = records["gps_time"]
        self.gps_times = [
            min([*self.gps_times[:1], float(times.min())]),
            max([*self.gps_times[1:], float(times.max())]),
        ]


@contextmanager
def copc_file(path: Path, cloud: CloudFile, cube: Cube) -> Iterator[CopcWriter]:
    """New COPC file at `path`, complete when the block ends without an exception."""
    form = cloud.target_format
    laz = lazrs.LazVlr.new_for_compression(form.id, form.num_extra_bytes, use_variable_size_chunks=True)
    records = _kept_records(cloud) + _record(_LAZ, bytes(laz.record_data()), "lazrs")
    points_at = _HEADER.size + _RECORD_HEAD.size + _INFO.size + len(records)
    with path.open("xb+") as target:
        target.write(bytes(points_at))
        compressor = lazrs.ParLasZipCompressor(target, laz)
        compressor.reserve_offset_to_chunk_table()
        writer = CopcWriter(target, cloud, cube, compressor)
        yield writer
        writer.flush()
        compressor.done()
        target.seek(points_at)
        sizes = [size for _, size in lazrs.read_chunk_table(target, laz)]
        target.seek(0, 2)
        hierarchy_at = target.tell()
        hierarchy = _hierarchy(writer.written, sizes, points_at + _TABLE_OFFSET_BYTES)
        target.write(_long_record(("copc", 1000), hierarchy, "EPT hierarchy"))
        target.seek(0)
        target.write(
            _header(writer, points_at=points_at, records=1 + _count(records), hierarchy_at=hierarchy_at)
        )
        info = _info(writer, hierarchy_at + _LONG_RECORD_HEAD.size, len(hierarchy))
        target.write(_record(("copc", 1), info, "COPC info"))
        target.write(records)


def _hierarchy(written: list[tuple[NodeKey, int]], sizes: list[int], first_at: int) -> bytes:
    """Hierarchy page with an entry for each node, in the order of the chunks."""
    entries, at = [], first_at
    for (key, points), size in zip(written, sizes, strict=True):
        entries.append(_ENTRY.pack(*key, at, size, points))
        at += size
    return b"".join(entries)


def _info(writer: CopcWriter, hierarchy_at: int, hierarchy_bytes: int) -> bytes:
    half = writer.cube.side / 2
    return _INFO.pack(
        *(low + half for low in writer.cube.corner),
        half,
        writer.cube.side / GRID,
        hierarchy_at,
        hierarchy_bytes,
        *writer.gps_times,
        *[0] * 11,
    )


def _header(writer: CopcWriter, *, points_at: int, records: int, hierarchy_at: int) -> bytes:
    source, form = writer.cloud.header, writer.cloud.target_format
    created = source.creation_date
    ends = [
        float(stored * scale + offset)
        for axis, (scale, offset) in enumerate(zip(source.scales, source.offsets, strict=True))
        for stored in (writer.maximum[axis], writer.minimum[axis])
    ]
    return _HEADER.pack(
        b"LASF",
        source.file_source_id,
        (source.global_encoding.value & _GPS_TIME_BITS) | _HAS_WKT,
        source.uuid.bytes_le,
        1,
        4,
        _text(source.system_identifier),
        b"aerotask",
        created.timetuple().tm_yday if created else 0,
        created.year if created else 0,
        _HEADER.size,
        points_at,
        records,
        form.id | _IS_LAZ,
        form.size,
        0,
        *[0] * 5,
        *map(float, source.scales),
        *map(float, source.offsets),
        *ends,
        0,
        hierarchy_at,
        1,
        writer.points,
        *writer.by_return[1:],
    )


def _kept_records(cloud: CloudFile) -> bytes:
    """Records copied from the source: coordinate system (as WKT, required by LAS 1.4) and extra dimensions."""
    records = b""
    has_wkt = False
    for record in cloud.header.vlrs:
        name = (record.user_id, record.record_id)
        if name in _KEPT_RECORDS:
            has_wkt |= name == _WKT
            records += _record(name, bytes(record.record_data_bytes()), record.description)
    wkt = None if has_wkt else cloud.long_wkt or _wkt_of_geotiff_keys(cloud.header)
    content = (wkt or "").encode() + b"\0"
    # A longer WKT doesn't fit into a record before the points; it is no plain coordinate system then.
    return records + (_record(_WKT, content, "WKT") if wkt and len(content) < 2**16 else b"")


def _wkt_of_geotiff_keys(source: Any) -> str | None:
    # An edge: PROJ on untrusted keys may fail in any way, and the points are right without a coordinate system.
    try:
        crs = source.parse_crs()
        return None if crs is None else str(crs.to_wkt("WKT1_GDAL"))
    except Exception:  # noqa: BLE001
        return None


def _record(name: tuple[str, int], content: bytes, description: str) -> bytes:
    return _RECORD_HEAD.pack(0, name[0].encode(), name[1], len(content), _text(description)) + content


def _long_record(name: tuple[str, int], content: bytes, description: str) -> bytes:
    return _LONG_RECORD_HEAD.pack(0, name[0].encode(), name[1], len(content), _text(description)) + content


def _text(value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("ascii", "replace")
    return raw[:32]


def _count(records: bytes) -> int:
    at = found = 0
    while at < len(records):
        at += _RECORD_HEAD.size + _RECORD_HEAD.unpack_from(records, at)[3]
        found += 1
    return found


def _bytes_of(node: Node) -> Any:
    return np.ascontiguousarray(node.records).view(np.uint8)

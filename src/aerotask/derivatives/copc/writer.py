"""Writes a COPC file: LAS 1.4 header, the records that COPC asks for, a LAZ chunk for each node, the hierarchy last.

Numbers of bytes and the order of fields are those of LAS 1.4 R15 (tables 3, 6 and 10) and of COPC 1.0.
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
_KEEP = frozenset({_WKT, _EXTRA_BYTES})
_IS_LAZ = 0x80
_HAS_WKT = 1 << 4
_GPS_TIME_BITS = 0b1

BATCH_POINTS = 500_000
"""Nodes are compressed side by side once they hold this many points together."""


@dataclass(slots=True)
class CopcWriter:
    """Collects nodes; `copc_file` begins and ends it."""

    target: BinaryIO
    cloud: CloudFile
    cube: Cube
    _compressor: Any
    written: list[tuple[NodeKey, int]] = field(default_factory=list)
    least: list[int] = field(default_factory=lambda: [2**31] * 3)
    most: list[int] = field(default_factory=lambda: [-(2**31)] * 3)
    by_return: list[int] = field(default_factory=lambda: [0] * 16)
    gps_times: list[float] = field(default_factory=list)
    _waiting: list[Node] = field(default_factory=list)

    @property
    def points(self) -> int:
        """How many points have been taken."""
        return sum(count for _, count in self.written)

    def add(self, node: Node) -> None:
        """Take a node; it is compressed with others, later."""
        self._note(node)
        self._waiting.append(node)
        if sum(len(waiting.records) for waiting in self._waiting) >= BATCH_POINTS:
            self.flush()

    def flush(self) -> None:
        """Compress what is waiting, each node as a chunk."""
        if self._waiting:
            self._compressor.compress_chunks([_bytes_of(node) for node in self._waiting])
            self._waiting.clear()

    def _note(self, node: Node) -> None:
        records = node.records
        self.written.append((node.key, len(records)))
        for axis, name in enumerate("XYZ"):
            self.least[axis] = min(self.least[axis], int(records[name].min()))
            self.most[axis] = max(self.most[axis], int(records[name].max()))
        for number, count in enumerate(np.bincount(records["bit_fields"] & 0b1111)):
            self.by_return[number] += int(count)
        times = records["gps_time"]
        self.gps_times = [
            min([*self.gps_times[:1], float(times.min())]),
            max([*self.gps_times[1:], float(times.max())]),
        ]


@contextmanager
def copc_file(path: Path, cloud: CloudFile, cube: Cube) -> Iterator[CopcWriter]:
    """A new COPC file at `path`, complete when the block ends well."""
    form = cloud.target_format
    laz = lazrs.LazVlr.new_for_compression(form.id, form.num_extra_bytes, use_variable_size_chunks=True)
    kept = _kept_records(cloud) + _record(_LAZ, bytes(laz.record_data()), "lazrs")
    points_at = _HEADER.size + _RECORD_HEAD.size + _INFO.size + len(kept)
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
            _header(writer, points_at=points_at, records=1 + _count(kept), hierarchy_at=hierarchy_at)
        )
        info = _info(writer, hierarchy_at + _LONG_RECORD_HEAD.size, len(hierarchy))
        target.write(_record(("copc", 1), info, "COPC info"))
        target.write(kept)


def _hierarchy(written: list[tuple[NodeKey, int]], sizes: list[int], first_at: int) -> bytes:
    """One page with an entry for each node, in the order of the chunks."""
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
        for stored in (writer.most[axis], writer.least[axis])
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
    """The source's records that stay true: coordinate system (as WKT, which LAS 1.4 wants) and extra dimensions."""
    kept = b""
    has_wkt = False
    for record in cloud.header.vlrs:
        name = (record.user_id, record.record_id)
        if name in _KEEP:
            has_wkt |= name == _WKT
            kept += _record(name, bytes(record.record_data_bytes()), record.description)
    wkt = None if has_wkt else cloud.long_wkt or _wkt_of_geotiff_keys(cloud.header)
    content = (wkt or "").encode() + b"\0"
    # A longer one has no place before the points: it says more than coordinates need, or is no WKT.
    return kept + (_record(_WKT, content, "WKT") if wkt and len(content) < 2**16 else b"")


def _wkt_of_geotiff_keys(source: Any) -> str | None:
    # The edge to other people's files and to PROJ's tables: without a coordinate system the points are still right.
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

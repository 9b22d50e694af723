"""Metadata of MP4 and QuickTime videos (ISO/IEC 14496-12): size, duration, capture time and location."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.geojson import GeoJson, point

MAX_BOXES = 1000
MAX_MOVIE_BYTES = 64 * 1024 * 1024
_EPOCH = datetime(1904, 1, 1, tzinfo=UTC)
# ISO 6709, as in the box `©xyz`: +46.8426-091.9945+198.3/
_ISO_6709 = re.compile(rb"([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)(?:([+-]\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """Properties of a video; `point` is the location where it was taken."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    point: GeoJson | None = None


def extract_video(path: Path) -> VideoMetadata:
    """Extracts the metadata of the video at `path` from its boxes; no frame is decoded.

    Raises:
        InvalidInput: it is not an MP4 or QuickTime file, or ends before its movie box (`unreadable-video`).
    """
    with path.open("rb") as file:
        boxes = {kind: content for kind, content in _boxes(file, path.stat().st_size) if kind == b"moov"}
    if b"moov" not in boxes:
        raise InvalidInput(
            f"{shown(path.name)} is not a readable video: it has no movie box (moov), or was truncated before it.",
            code="unreadable-video",
        )
    return _movie(boxes[b"moov"])


def _movie(movie: bytes) -> VideoMetadata:
    properties: dict[str, Any] = {}
    location = None
    for kind, content in _inner(movie):
        if kind == b"mvhd":
            properties |= _header(content)
        elif kind == b"trak" and "width" not in properties:
            properties |= _track_size(content)
        elif kind == b"udta":
            location = location or _location(content)
    return VideoMetadata(properties, location)


def _header(content: bytes) -> dict[str, Any]:
    form, at = (">QQLQ", 4) if content[:1] == b"\1" else (">LLLL", 4)
    if len(content) < at + struct.calcsize(form):
        return {}
    created, _, per_second, length = struct.unpack_from(form, content, at)
    properties: dict[str, Any] = {}
    if per_second:
        properties["duration"] = round(length / per_second, 3)
    # Many cameras leave the time out, or count from 1970 instead of 1904.
    if 3_000_000_000 < created < 2**32:
        moment = _EPOCH + timedelta(seconds=created)
        properties["captureTime"] = round(moment.timestamp() * 1000)
        properties["captureTimeText"] = moment.isoformat(timespec="milliseconds")
    return properties


def _track_size(content: bytes) -> dict[str, Any]:
    """Width and height at the end of a track header, as 16.16 fixed point; zeros in audio tracks."""
    for kind, header in _inner(content):
        if kind == b"tkhd" and len(header) >= 84:
            width, height = (value >> 16 for value in struct.unpack(">LL", header[-8:]))
            return {"width": width, "height": height} if width and height else {}
    return {}


def _location(content: bytes) -> GeoJson | None:
    for kind, text in _inner(content):
        match = _ISO_6709.search(text[:200]) if kind == b"\xa9xyz" else None
        if match is None:
            continue
        latitude, longitude = float(match[1]), float(match[2])
        if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude):
            return point(longitude, latitude, float(match[3]) if match[3] else None)
    return None


def _inner(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    return _boxes(io.BytesIO(content), len(content), whole=True)


def _boxes(file: BinaryIO, end: int, *, whole: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Boxes with their contents; at the top level only the movie box is read."""
    for _ in range(MAX_BOXES):
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">L4s", head)
        if size == 1:
            size = int.from_bytes(file.read(8), "big") - 8
        elif size == 0:  # up to the end of the file
            size = end - file.tell() + 8
        content_bytes = size - 8
        if content_bytes < 0 or file.tell() + content_bytes > end:
            return
        after = file.tell() + content_bytes
        wanted = whole or (kind == b"moov" and content_bytes <= MAX_MOVIE_BYTES)
        if wanted:
            yield kind, file.read(content_bytes)
        file.seek(after)

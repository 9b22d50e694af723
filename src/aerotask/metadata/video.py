"""What the container of an MP4 or QuickTime video tells (ISO/IEC 14496-12): size, duration, time and place."""

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
# ISO 6709, as the box `©xyz` has it: +46.8426-091.9945+198.3/
_PLACE = re.compile(rb"([+-]\d{1,2}(?:\.\d+)?)([+-]\d{1,3}(?:\.\d+)?)(?:([+-]\d+(?:\.\d+)?))?")


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What was found; `point` is where the video was taken."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    point: GeoJson | None = None


def describe(path: Path) -> VideoMetadata:
    """Read the boxes of the video at `path`; no picture is decoded.

    Raises:
        InvalidInput: it is no MP4 or QuickTime file, or ends before its description (`unreadable-video`).
    """
    with path.open("rb") as file:
        boxes = {kind: content for kind, content in _boxes(file, path.stat().st_size) if kind == b"moov"}
    if b"moov" not in boxes:
        raise InvalidInput(
            f"{shown(path.name)} is not a readable video: it has no description of its content, or was cut before it.",
            code="unreadable-video",
        )
    return _movie(boxes[b"moov"])


def _movie(movie: bytes) -> VideoMetadata:
    properties: dict[str, Any] = {}
    place = None
    for kind, content in _inner(movie):
        if kind == b"mvhd":
            properties |= _header(content)
        elif kind == b"trak" and "width" not in properties:
            properties |= _track_size(content)
        elif kind == b"udta":
            place = place or _place(content)
    return VideoMetadata(properties, place)


def _header(content: bytes) -> dict[str, Any]:
    form, at = (">QQLQ", 4) if content[:1] == b"\1" else (">LLLL", 4)
    if len(content) < at + struct.calcsize(form):
        return {}
    created, _, per_second, length = struct.unpack_from(form, content, at)
    properties: dict[str, Any] = {}
    if per_second:
        properties["duration"] = round(length / per_second, 3)
    # Many cameras leave the time out, or count from 1970.
    if 3_000_000_000 < created < 2**32:
        moment = _EPOCH + timedelta(seconds=created)
        properties["captureTime"] = round(moment.timestamp() * 1000)
        properties["captureTimeText"] = moment.isoformat(timespec="milliseconds")
    return properties


def _track_size(content: bytes) -> dict[str, Any]:
    """The last two members of a track's header, 16.16 fixed point; a sound track has zeros."""
    for kind, header in _inner(content):
        if kind == b"tkhd" and len(header) >= 84:
            width, height = (value >> 16 for value in struct.unpack(">LL", header[-8:]))
            return {"width": width, "height": height} if width and height else {}
    return {}


def _place(content: bytes) -> GeoJson | None:
    for kind, text in _inner(content):
        match = _PLACE.search(text[:200]) if kind == b"\xa9xyz" else None
        if match is None:
            continue
        latitude, longitude = float(match[1]), float(match[2])
        if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude):
            return point(longitude, latitude, float(match[3]) if match[3] else None)
    return None


def _inner(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    return _boxes(io.BytesIO(content), len(content), whole=True)


def _boxes(file: BinaryIO, end: int, *, whole: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Each box with its content; of the file's own boxes only the movie's description is read."""
    for _ in range(MAX_BOXES):
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">L4s", head)
        if size == 1:
            size = int.from_bytes(file.read(8), "big") - 8
        elif size == 0:  # to the end
            size = end - file.tell() + 8
        content_bytes = size - 8
        if content_bytes < 0 or file.tell() + content_bytes > end:
            return
        after = file.tell() + content_bytes
        wanted = whole or (kind == b"moov" and content_bytes <= MAX_MOVIE_BYTES)
        if wanted:
            yield kind, file.read(content_bytes)
        file.seek(after)

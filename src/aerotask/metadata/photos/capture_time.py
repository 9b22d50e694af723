"""Capture time of a photo; cameras store local time, often without its time zone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from aerotask.metadata.photos.exif import EmbeddedMetadata
from aerotask.metadata.photos.values import number, text

_EXIF_TIME = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?")
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})|(Z)")
# UTC offsets are multiples of a quarter of an hour.
_QUARTER = timedelta(minutes=15)
_FARTHEST_ZONE = timedelta(hours=14)
# Cameras whose clock is set by GPS and shows UTC.
_UTC_CLOCKS = frozenset({"micasense"})


@dataclass(frozen=True, slots=True)
class CaptureTime:
    """Capture time and the source of its time zone."""

    moment: datetime
    zone_source: str
    """`exif`, `xmp`, `gps`, `camera` (its clock shows UTC), `longitude` (an estimate that may be off by an hour or
    two), or `none` (UTC is assumed)."""

    def to_properties(self) -> dict[str, object]:
        """`captureTime` in milliseconds since 1970, as in DroneDB, and as text with its UTC offset."""
        return {
            "captureTime": round(self.moment.timestamp() * 1000),
            "captureTimeText": self.moment.isoformat(timespec="milliseconds"),
            "captureTimeZoneSource": self.zone_source,
        }


def capture_time(embedded: EmbeddedMetadata, longitude: float | None) -> CaptureTime | None:
    """Capture time of a photo; `longitude` is its position in degrees, if known."""
    local = _local(embedded)
    if local is None:
        return None
    for source, offset in _zones(embedded, local, longitude):
        if offset is not None and abs(offset) <= _FARTHEST_ZONE:
            return CaptureTime(local.replace(tzinfo=timezone(offset)), source)
    return CaptureTime(local.replace(tzinfo=UTC), "none")


def _local(embedded: EmbeddedMetadata) -> datetime | None:
    """Local time as shown by the camera's clock."""
    for tag, fraction in (
        ("DateTimeOriginal", "SubsecTimeOriginal"),
        ("DateTimeDigitized", "SubsecTimeDigitized"),
        ("DateTime", "SubsecTime"),
    ):
        moment = _parsed(text(embedded.exif.get(tag)))
        if moment is not None:
            # MicaSense stores the fraction of the capture time in SubsecTime.
            digits = text(embedded.exif.get(fraction)) or text(embedded.exif.get("SubsecTime")) or ""
            known = digits.isascii() and digits.isdigit()
            return moment + timedelta(seconds=float(f"0.{digits}")) if known else moment
    return None


def _zones(
    embedded: EmbeddedMetadata, local: datetime, longitude: float | None
) -> Iterator[tuple[str, timedelta | None]]:
    """Candidates for the clock's UTC offset with their sources, the most reliable first."""
    for tag in ("OffsetTimeOriginal", "OffsetTimeDigitized", "OffsetTime"):
        yield "exif", _offset(text(embedded.exif.get(tag)))
    created = text(embedded.xmp.get("xmp:CreateDate")) or ""
    if (shown := _parsed(created)) is not None and abs(shown - local) < timedelta(seconds=2):
        yield "xmp", _offset(created[19:])
    yield "xmp", _distance(local, _parsed(text(embedded.xmp.get("drone-dji:UTCAtExposure"))))
    yield "gps", _distance(local, _satellite_time(embedded))
    if (text(embedded.exif.get("Make")) or "").lower() in _UTC_CLOCKS:
        yield "camera", timedelta(0)
    if longitude is not None:
        yield "longitude", timedelta(hours=round(longitude / 15))


def _satellite_time(embedded: EmbeddedMetadata) -> datetime | None:
    day, clock = text(embedded.gps.get("GPSDateStamp")), embedded.gps.get("GPSTimeStamp")
    if day is None or not isinstance(clock, tuple) or len(clock) != 3:
        return None
    hours, minutes, seconds = (number(part) for part in clock)
    midnight = _parsed(f"{day} 00:00:00")
    if midnight is None or hours is None or minutes is None or seconds is None:
        return None
    since = hours * 3600 + minutes * 60 + seconds
    return midnight + timedelta(seconds=since) if 0 <= since <= 90_000 else None


def _parsed(shown: str | None) -> datetime | None:
    match = _EXIF_TIME.match(shown or "")
    if match is None:
        return None
    *parts, fraction = match.groups()
    try:
        year, month, day, hour, minute, second = map(int, parts)
        moment = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001  the zone is found later
        # Otherwise arithmetic with UTC offsets could exceed the range of datetime.
        if not 1900 <= year <= 2200:
            return None
    except ValueError:
        return None
    return moment + timedelta(seconds=float(f"0.{fraction or 0}"))


def _offset(shown: str | None) -> timedelta | None:
    match = _OFFSET.search(shown or "")
    if match is None:
        return None
    sign, hours, minutes, zulu = match.groups()
    if zulu:
        return timedelta(0)
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return -offset if sign == "-" else offset


def _distance(local: datetime, universal: datetime | None) -> timedelta | None:
    """UTC offset of the clock, if it is close to a valid one; the two times are not taken at the same instant."""
    if universal is None:
        return None
    zone = round((local - universal) / _QUARTER) * _QUARTER
    return zone if abs(local - universal - zone) <= timedelta(minutes=2) else None

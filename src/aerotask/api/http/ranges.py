"""Conditional and range requests as pure functions (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

# A longer list of ranges gets the whole content (section 14.2), otherwise tiny requests cause huge responses.
MAX_RANGES = 64
_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
# Longer numbers lie beyond the end of any content, and Python refuses to parse numbers of thousands of digits.
_MANY_DIGITS = 18


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Byte range from `start` to `stop`, exclusive."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class RangeResponse:
    """Response status and the byte ranges to send (none for 304, 412, 416)."""

    status: int
    spans: tuple[ByteRange, ...] = ()


def select(method: str, headers: Mapping[str, str], *, size_bytes: int, etag: str) -> RangeResponse:
    """The status and ranges for a GET or HEAD with these headers (names in lower case); the ETag is strong.

    The content has no modification date, so conditions on dates are ignored (sections 13.1.3, 13.1.4), and
    an `If-Range` with a date never matches.
    """
    if "if-match" in headers and not matches(headers["if-match"], etag, weak=False):
        return RangeResponse(412)
    if "if-none-match" in headers and matches(headers["if-none-match"], etag, weak=True):
        return RangeResponse(304)
    whole = RangeResponse(200, (ByteRange(0, size_bytes),))
    range_header = headers.get("range")
    # Range is defined for GET only; If-Range with another tag requests the whole content.
    if method != "GET" or range_header is None or headers.get("if-range", etag).strip() != etag:
        return whole
    spans = parse_range(range_header, size_bytes)
    if spans is None:
        return whole
    return RangeResponse(206, spans) if spans else RangeResponse(416)


def matches(header: str, etag: str, *, weak: bool) -> bool:
    """Whether an If-Match or If-None-Match header contains the tag; If-None-Match compares `weak`."""
    if header.strip() == "*":
        return True
    tags = [tag.strip() for tag in header.split(",")]
    if weak:
        tags = [tag.removeprefix("W/") for tag in tags]
    return etag in tags


def parse_range(value: str, size_bytes: int) -> tuple[ByteRange, ...] | None:
    """The satisfiable ranges of a Range header, overlapping ones joined; None if the header is to be ignored.

    An empty tuple means that none of its ranges can be satisfied.
    """
    unit, separator, specs = value.partition("=")
    if unit.strip().lower() != "bytes" or not separator:
        return None
    spans: list[ByteRange] = []
    listed = [spec.strip() for spec in specs.split(",") if spec.strip()]
    if not listed or len(listed) > MAX_RANGES:
        return None
    for spec in listed:
        match = _SPEC.fullmatch(spec)
        if match is None or spec == "-":
            return None
        first, last = map(_position, match.groups())
        if first is not None and last is not None and last < first:
            return None
        if first is None and last and not size_bytes:
            # A suffix of an empty content is satisfiable (section 14.1.2) but has no Content-Range; send the whole.
            return None
        span = _span(first, last, size_bytes)
        if span is not None:
            spans.append(span)
    return _joined(spans)


def _position(digits: str) -> int | None:
    significant = digits.lstrip("0")
    if len(significant) > _MANY_DIGITS:
        return int("9" * _MANY_DIGITS)
    return int(significant or "0") if digits else None


def _span(first: int | None, last: int | None, size_bytes: int) -> ByteRange | None:
    if first is None:
        length = min(last or 0, size_bytes)
        return ByteRange(size_bytes - length, size_bytes) if length else None
    stop = size_bytes if last is None else min(last + 1, size_bytes)
    return ByteRange(first, stop) if first < size_bytes else None


def _joined(spans: list[ByteRange]) -> tuple[ByteRange, ...]:
    """The ranges in requested order; if any two overlap, ascending and joined (section 15.3.7.2)."""
    ordered = sorted(spans, key=lambda span: span.start)
    apart = all(a.stop <= b.start for a, b in pairwise(ordered))
    if apart:
        return tuple(spans)
    joined = [ordered[0]]
    for span in ordered[1:]:
        if span.start <= joined[-1].stop:
            joined[-1] = ByteRange(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return tuple(joined)

"""Extended variable-length records of LAS, read without trusting their declared sizes (LAS 1.4 R15, 2.3 to 2.7)."""

from __future__ import annotations

import os
import struct
from typing import Any, BinaryIO

MAX_INFLATION = 10_000
"""Bytes of points that a cloud may declare per byte of its file; identical points reach 3,500."""
MAX_LONG_RECORDS = 1000
MAX_WKT_BYTES = 1024 * 1024

_LONG_RECORD_HEAD = struct.Struct("<2x16sHQ32x")
_WKT = (b"LASF_Projection", 2112)


def wkt_after_points(file: BinaryIO, header: Any) -> str | None:
    """CRS as WKT from the records after the points, where LAS 1.4 may store it; None if there is none.

    `header` is a laspy header.
    """
    file_bytes = os.fstat(file.fileno()).st_size
    offset = int(header.start_of_first_evlr)
    for _ in range(min(int(header.number_of_evlrs), MAX_LONG_RECORDS)):
        content_offset = offset + _LONG_RECORD_HEAD.size
        if not 0 < offset < content_offset <= file_bytes:
            return None
        file.seek(offset)
        user, number, content_bytes = _LONG_RECORD_HEAD.unpack(file.read(_LONG_RECORD_HEAD.size))
        if (user.rstrip(b"\0"), number) == _WKT and content_bytes <= MAX_WKT_BYTES:
            return file.read(content_bytes).split(b"\0", 1)[0].decode("utf-8", "replace") or None
        offset = content_offset + content_bytes
    return None

"""Image size of WebP, GIF and BMP files, which the raster tools don't read, from their headers."""

from __future__ import annotations

import struct
from pathlib import Path


def size_of(path: Path) -> tuple[int, int] | None:
    """Reads width and height of the WebP, GIF or BMP image at `path`; None if the header is another or invalid."""
    with path.open("rb") as file:
        head = file.read(32)
    for read in (_webp, _gif, _bmp):
        size = read(head)
        if size is not None and min(size) > 0:
            return size
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    """Reads the first WebP chunk (RFC 9649): extended header, lossy (RFC 6386, 9.1) or lossless image."""
    if len(head) < 30 or not head.startswith(b"RIFF") or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L" if head[20] == 0x2F:
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _gif(head: bytes) -> tuple[int, int] | None:
    if len(head) < 10 or head[:6] not in {b"GIF87a", b"GIF89a"}:
        return None
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _bmp(head: bytes) -> tuple[int, int] | None:
    """Reads a BMP header; a negative height means that the rows are stored top-down."""
    if len(head) < 26 or not head.startswith(b"BM"):
        return None
    width, height = struct.unpack_from("<ll", head, 18)
    return width, abs(height)

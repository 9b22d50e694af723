"""Fast PNG encoder for tiles: no row filters and fast deflate, which suits flat colours."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

MEDIA_TYPE = "image/png"
DEFLATE_LEVEL = 2
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGBA_8_BITS = bytes((8, 6, 0, 0, 0))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """The PNG (ISO/IEC 15948) of an image (rows, cols, 4) in red, green, blue and alpha."""
    rows, cols, channels = pixels.shape
    if channels != 4:
        raise ValueError("the image must have four channels: red, green, blue and alpha")
    lines = np.zeros((rows, 1 + 4 * cols), np.uint8)  # first byte: filter type 0, none
    lines[:, 1:] = pixels.reshape(rows, -1)
    header = struct.pack(">2I", cols, rows) + _RGBA_8_BITS
    content: Any = isal_zlib.compress(lines, DEFLATE_LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

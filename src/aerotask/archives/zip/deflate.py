"""DEFLATE compression with a bounded ratio, so that `archive-extract` never mistakes our own ZIP for a bomb.

Nodata and empty masks deflate by a factor of a thousand; `archive-extract` rejects a hundred. The start of a chunk that
shrinks too much is therefore stored instead: a DEFLATE stream may switch between compressed and stored blocks
(RFC 1951, section 3.2.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from isal import isal_zlib

from aerotask.metadata.file_types import suffix_of

MAX_RATIO = 50
"""Half of the default limit, so that installations with a lower limit accept the file too."""
_LEVEL = 1
"""isal's level; 1 compresses about like zlib's 3 at many times the speed."""
_RAW = -15
_MAX_STORED_BLOCK = 0xFFFF
_COMPRESSED_SUFFIXES = frozenset(
    suffix
    for group in (
        "jpg jpeg png webp gif heic avif jp2 jxl",
        "mp4 mov m4v avi mkv webm mp3 ogg",
        "laz e57 nxz pmtiles kmz 3tz",
        "zip 7z rar gz tgz bz2 tbz2 xz txz zst tzst br lz4",
        "pdf docx xlsx pptx odt ods odp jar whl apk",
    )
    for suffix in group.split()
)


def is_compressed(path: str) -> bool:
    """Whether the file's format, by its suffix, is compressed already: deflating it again only costs time."""
    return suffix_of(path) in _COMPRESSED_SUFFIXES


def deflated(content: bytes, max_ratio: int = MAX_RATIO) -> bytes:
    """Raw DEFLATE stream of a whole content, the shortest that keeps to the ratio."""
    compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
    compressed = compressor.compress(content) + compressor.flush()
    if len(compressed) * max_ratio >= len(content):
        return compressed
    bounded = Deflater(max_ratio)
    return bounded.feed(content) + bounded.end()


class Deflater:
    """Raw DEFLATE stream in which no chunk shrinks by more than `max_ratio`."""

    def __init__(self, max_ratio: int = MAX_RATIO) -> None:
        self._compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
        self._max_ratio = max(max_ratio, 1)

    def feed(self, chunk: bytes | memoryview) -> bytes:
        """Compress a chunk; later chunks contain no back-references into it."""
        compressed = self._compress(chunk)
        min_bytes = len(chunk) // self._max_ratio
        if len(compressed) >= min_bytes:
            return compressed
        return b"".join((*_stored_blocks(chunk[:min_bytes]), self._compress(chunk[min_bytes:])))

    def end(self) -> bytes:
        """The final bytes of the stream."""
        return self._compressor.flush()

    def _compress(self, chunk: bytes | memoryview) -> bytes:
        # A full flush ends on a byte boundary and drops the history, so this output can be discarded.
        return self._compressor.compress(chunk) + self._compressor.flush(isal_zlib.Z_FULL_FLUSH)


def _stored_blocks(data: bytes | memoryview) -> Iterator[bytes]:
    """Stored (uncompressed) blocks, none of them marked as the last of the stream."""
    for start in range(0, len(data), _MAX_STORED_BLOCK):
        block = data[start : start + _MAX_STORED_BLOCK]
        yield struct.pack("<B2H", 0, len(block), len(block) ^ 0xFFFF)
        yield bytes(block)

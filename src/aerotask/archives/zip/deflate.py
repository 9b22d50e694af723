"""Deflates so that nothing comes out that our own extraction would take for a bomb.

Nodata and empty masks deflate by a factor of a thousand; `archive-extract` refuses a hundred. Of a piece that
shrinks too much the beginning is therefore stored, as long as the bytes that are missing: a DEFLATE stream may
change between blocks that are packed and blocks that are not (RFC 1951, section 3.2.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from isal import isal_zlib

MAX_RATIO = 50
"""Half of what is allowed by default, so that other installations may allow less."""
_LEVEL = 1
"""isal's; level 1 packs about like zlib's 3 at many times the speed."""
_RAW = -15
_LONGEST_STORED = 0xFFFF


def deflated(content: bytes, max_ratio: int = MAX_RATIO) -> bytes:
    """A whole content as a stream; the shortest one, as long as that isn't too short."""
    packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
    packed = packer.compress(content) + packer.flush()
    if len(packed) * max_ratio >= len(content):
        return packed
    careful = Deflater(max_ratio)
    return careful.feed(content) + careful.end()


class Deflater:
    """A raw DEFLATE stream; no piece of it stands for more than `max_ratio` times its length."""

    def __init__(self, max_ratio: int = MAX_RATIO) -> None:
        self._packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW)
        self._max_ratio = max(max_ratio, 1)

    def feed(self, piece: bytes | memoryview) -> bytes:
        """What becomes of the piece; the next one refers to nothing in it."""
        packed = self._packed(piece)
        least = len(piece) // self._max_ratio
        if len(packed) >= least:
            return packed
        return b"".join((*_stored(piece[:least]), self._packed(piece[least:])))

    def end(self) -> bytes:
        """What closes the stream."""
        return self._packer.flush()

    def _packed(self, piece: bytes | memoryview) -> bytes:
        # Flushed so that the stream stands at a whole byte, and what came before can be left out.
        return self._packer.compress(piece) + self._packer.flush(isal_zlib.Z_FULL_FLUSH)


def _stored(data: bytes | memoryview) -> Iterator[bytes]:
    """Blocks that are not packed; not the last ones of the stream."""
    for at in range(0, len(data), _LONGEST_STORED):
        block = data[at : at + _LONGEST_STORED]
        yield struct.pack("<B2H", 0, len(block), len(block) ^ 0xFFFF)
        yield bytes(block)

"""Compression methods of ZIP members (PKWARE APPNOTE 6.3.10, sections 4.4.5 and 5), each with bounded memory."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import inflate64
import pyppmd
import zstandard

from aerotask.archives import decompress, errors
from aerotask.archives.decoder_memory import DecoderMemory
from aerotask.archives.zip.records import STORED

DEFLATE, DEFLATE64, BZIP2, LZMA, OLD_ZSTD, ZSTD, XZ, PPMD = 8, 9, 12, 14, 20, 93, 95, 98
LZMA_HAS_END = 0x0002
"""Flag bit 1 of LZMA members: an end marker ends the stream."""
_UNKNOWN_SIZE = 2**64 - 1
_LZMA_HEAD, _LZMA_PROPERTIES = struct.Struct("<2BH"), struct.Struct("<BL")
_MIN_DICTIONARY_BYTES = 4096
# A match of 65,538 bytes takes at least 18 bits, so a slice expands to at most 7.5 MB.
_DEFLATE64_SLICE_BYTES = 256
_PPMD_FIRST_BYTES = 8
"""The range coder starts with five bytes, all of which the decoder needs at once."""
_PPMD_STEP_BYTES = 64 * 1024
_MIB = 1024 * 1024
_ZSTD_HEAD_BYTES = 18

Compressed = Iterator[bytes]


def decompressed(
    method: int, compressed: Compressed, *, size_bytes: int, flags: int, memory: DecoderMemory
) -> Iterator[bytes]:
    """Content of a member of `size_bytes`; a damaged one may have more or less.

    Raises:
        InvalidInput: it is damaged, or needs too much memory.
    """
    if method in _SIMPLE:
        return decompress.decompress_one(compressed, _SIMPLE[method]())
    if method == DEFLATE64:
        return _deflate64(compressed)
    if method == LZMA:
        return _lzma(compressed, memory, size_bytes=size_bytes, has_end=bool(flags & LZMA_HAS_END))
    if method == PPMD:
        return _ppmd(compressed, memory, size_bytes=size_bytes)
    if method == XZ:
        return _with_memory(memory, decompress.XZ_MEMORY_BYTES, compressed, decompress.xz)
    return _zstd(compressed, memory)


_SIMPLE: Mapping[int, Callable[[], decompress.Decompressor]] = {
    DEFLATE: decompress.deflate,
    BZIP2: decompress.bzip2,
}
METHODS = frozenset({STORED, *_SIMPLE, DEFLATE64, LZMA, OLD_ZSTD, ZSTD, XZ, PPMD})


def _deflate64(compressed: Compressed) -> Iterator[bytes]:
    """Deflate64, which has the blocks of DEFLATE (RFC 1951) with longer distances and matches."""
    inflater = inflate64.Inflater()
    for piece in _last_byte_alone(compressed):
        if inflater.eof:
            raise errors.damaged("there is data after the end of a stream")
        for start in range(0, len(piece), _DEFLATE64_SLICE_BYTES):
            try:
                chunk = inflater.inflate(piece[start : start + _DEFLATE64_SLICE_BYTES])
            except ValueError as error:
                raise errors.damaged("compressed data is invalid") from error
            if chunk:
                yield chunk
    if not inflater.eof:
        raise errors.damaged("compressed data is truncated")


def _last_byte_alone(compressed: Compressed) -> Iterator[bytes]:
    """The chunks, the last byte by itself: the inflater doesn't tell how much of a chunk it has used."""
    before = b""
    for chunk in compressed:
        yield from filter(None, (before[:-1], before[-1:]))
        before = chunk
    yield from filter(None, (before[:-1], before[-1:]))


def _lzma(
    compressed: Compressed, memory: DecoderMemory, *, size_bytes: int, has_end: bool
) -> Iterator[bytes]:
    """LZMA: four bytes of versions and length, five of properties, and the stream (APPNOTE, section 5.8)."""
    head, rest = _split(compressed, _LZMA_HEAD.size + _LZMA_PROPERTIES.size)
    _major, _minor, length = _LZMA_HEAD.unpack_from(head)
    if length != _LZMA_PROPERTIES.size:
        raise errors.damaged("compressed data is invalid")
    properties, dictionary_bytes = _LZMA_PROPERTIES.unpack_from(head, _LZMA_HEAD.size)
    # Some writers ask for gigabytes whatever the content; more than its length is of no use.
    dictionary_bytes = max(min(dictionary_bytes, size_bytes), _MIN_DICTIONARY_BYTES)
    header = struct.pack("<BLQ", properties, dictionary_bytes, _UNKNOWN_SIZE if has_end else size_bytes)
    yield from _with_memory(memory, dictionary_bytes, chain([header], rest), decompress.lzma_alone)


def _ppmd(compressed: Compressed, memory: DecoderMemory, *, size_bytes: int) -> Iterator[bytes]:
    """PPMd, version I: two bytes of parameters, and a stream without an end (APPNOTE, section 5.10)."""
    head, rest = _split(compressed, 2 + _PPMD_FIRST_BYTES, is_required=False)
    parameters = int.from_bytes(head[:2], "little")
    order, memory_bytes, restoration = (
        (parameters & 15) + 1,
        ((parameters >> 4 & 255) + 1) * _MIB,
        parameters >> 12,
    )
    if order < 2 or restoration > 1:
        raise errors.damaged("compressed data is invalid")
    with memory.reserve(memory_bytes):
        decoder = pyppmd.Ppmd8Decoder(order, memory_bytes, restoration)
        left = size_bytes
        for data in chain([head[2:]], rest):
            piece = data
            while left:
                try:
                    chunk = decoder.decode(piece, min(left, _PPMD_STEP_BYTES))
                except ValueError as error:
                    raise errors.damaged("compressed data is invalid") from error
                piece = b""
                left -= len(chunk)
                if chunk:
                    yield chunk
                if decoder.eof or decoder.needs_input or not chunk:
                    break


def _zstd(compressed: Compressed, memory: DecoderMemory) -> Iterator[bytes]:
    head, rest = _split(compressed, _ZSTD_HEAD_BYTES, is_required=False)
    try:
        window_bytes = zstandard.get_frame_parameters(head).window_size
    except zstandard.ZstdError as error:
        raise errors.damaged("compressed data is invalid") from error
    needed = min(window_bytes, decompress.ZSTD_WINDOW_BYTES)
    yield from _with_memory(memory, needed, chain([head], rest), decompress.zstd)


def _with_memory(
    memory: DecoderMemory, count: int, compressed: Compressed, new: Callable[[], decompress.Decompressor]
) -> Iterator[bytes]:
    with memory.reserve(count):
        yield from decompress.decompress_one(compressed, new())


def _split(compressed: Compressed, count: int, *, is_required: bool = True) -> tuple[bytes, Compressed]:
    """The first bytes, and the chunks behind them."""
    head = b""
    for chunk in compressed:
        head += chunk
        if len(head) >= count:
            break
    if len(head) < count and is_required:
        raise errors.damaged("compressed data is truncated")
    return head[:count], chain(filter(None, [head[count:]]), compressed)

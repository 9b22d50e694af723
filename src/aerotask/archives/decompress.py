"""Decompression a little at a time: no input, however it was made, becomes more than a few MiB at once."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

from aerotask.archives import errors

PIECE_BYTES = 128 * 1024
"""What comes out at a time: larger pieces leave the processor's cache, and each costs fresh pages of memory."""
XZ_MEMORY_BYTES = 128 * 1024 * 1024
"""More than the dictionary of `xz -9` takes."""
ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
"""More than `zstd -19 --long` takes."""
_RAW_DEFLATE, _GZIP = -15, 31
# A block of zstd is 4 bytes at least and 128 KiB at most, so a slice becomes 16 MiB at most.
_ZSTD_SLICE_BYTES = 512
# EOFError is for data after an end.
UNPACKING_ERRORS: tuple[type[Exception], ...] = (
    cast("type[Exception]", IsalError),  # isal's types take it for an instance
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    EOFError,
    ValueError,
)


class Decompressor(Protocol):
    """One compressed stream being unpacked."""

    @property
    def ended(self) -> bool:
        """Whether the stream has come to its own end."""

    @property
    def unused(self) -> bytes:
        """What came after the end."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take some input, and give what becomes of it in pieces."""


def deflate() -> Decompressor:
    """A raw DEFLATE stream, as in ZIP files."""
    return _Inflate(_RAW_DEFLATE)


def gzip() -> Decompressor:
    """One member of a gzip file."""
    return _Inflate(_GZIP)


def bzip2() -> Decompressor:
    """One stream of a bzip2 file."""
    return _Buffering(bz2.BZ2Decompressor())


def xz() -> Decompressor:
    """One stream of an xz file."""
    return _Buffering(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES))


def zstd() -> Decompressor:
    """One frame of a Zstandard file."""
    return _Zstd()


def unpack_one(packed: Iterable[bytes], unpacker: Decompressor) -> Iterator[bytes]:
    """The content of exactly one stream.

    Raises:
        InvalidInput: it is damaged, ends too early, or something follows it.
    """
    try:
        for data in packed:
            if unpacker.ended:
                raise errors.damaged("there is more data than there should be")
            yield from unpacker.feed(data)
    except UNPACKING_ERRORS as error:
        raise _translated(error) from error
    if not unpacker.ended:
        raise errors.damaged("compressed data is cut off")
    if unpacker.unused:
        raise errors.damaged("there is more data than there should be")


def unpack_all(packed: Iterable[bytes], new: Callable[[], Decompressor]) -> Iterator[bytes]:
    """The content of streams that follow each other, as in `cat a.gz b.gz`; zeros may pad the end.

    Raises:
        InvalidInput: one is damaged or ends too early, or what follows is something else.
    """
    unpacker = new()
    begun = False
    try:
        for data in packed:
            rest = data
            while rest:
                if not begun and not (rest := rest.lstrip(b"\0")):
                    break
                begun = True
                yield from unpacker.feed(rest)
                if not unpacker.ended:
                    break
                rest, unpacker, begun = unpacker.unused, new(), False
    except UNPACKING_ERRORS as error:
        raise _translated(error) from error
    if begun:
        raise errors.damaged("compressed data is cut off")


def _translated(error: Exception) -> Exception:
    """What the libraries raise for damaged data as our own; faults of the disk and our own stay."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if hasattr(error, "code"):
        return error
    if isinstance(error, lzma.LZMAError) and "emory" in str(error):
        return errors.over_limit(f"it needs more than {XZ_MEMORY_BYTES} bytes of memory to be read")
    return errors.damaged("compressed data makes no sense")


class _Inflate:
    def __init__(self, window: int) -> None:
        self._unpacker = isal_zlib.decompressobj(window)

    @property
    def ended(self) -> bool:
        return bool(self._unpacker.eof)

    @property
    def unused(self) -> bytes:
        return bytes(self._unpacker.unused_data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._unpacker.decompress(data, PIECE_BYTES)
            if piece:
                yield piece
            data = self._unpacker.unconsumed_tail
            # A full piece may have left something in the unpacker although it took all input.
            if self._unpacker.eof or (not data and len(piece) < PIECE_BYTES):
                return


class _Buffering:
    def __init__(self, unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._unpacker = unpacker

    @property
    def ended(self) -> bool:
        return self._unpacker.eof

    @property
    def unused(self) -> bytes:
        return self._unpacker.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        while not self._unpacker.eof:
            piece = self._unpacker.decompress(data, PIECE_BYTES)
            data = b""
            if piece:
                yield piece
            elif self._unpacker.needs_input:
                return


class _Zstd:
    def __init__(self) -> None:
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
        self._left = b""

    @property
    def ended(self) -> bool:
        return self._unpacker.eof

    @property
    def unused(self) -> bytes:
        return self._unpacker.unused_data + self._left

    def feed(self, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), _ZSTD_SLICE_BYTES):
            piece = self._unpacker.decompress(data[at : at + _ZSTD_SLICE_BYTES])
            if piece:
                yield piece
            if self._unpacker.eof:
                self._left = data[at + _ZSTD_SLICE_BYTES :]
                return

"""Bounded decompression: no input, however crafted, expands to more than a few MiB at a time."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

import zstandard
from isal import isal_zlib
from isal.igzip_lib import IsalError

from aerotask.archives import errors
from aerotask.archives.decoder_memory import DICTIONARY_BYTES

CHUNK_BYTES = 128 * 1024
"""Output chunk: larger ones fall out of the processor's cache, and each costs fresh pages of memory."""
XZ_MEMORY_BYTES = 128 * 1024 * 1024
"""Enough for the dictionary of `xz -9`."""
LZMA_MEMORY_BYTES = DICTIONARY_BYTES + 1024 * 1024
"""A dictionary, and the decoder's state."""
ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
"""Enough for `zstd -19 --long`."""
_RAW_DEFLATE, _GZIP = -15, 31
# A zstd block has at least 4 bytes and expands to at most 128 KiB, so a slice expands to at most 16 MiB.
_ZSTD_SLICE_BYTES = 512
# EOFError is raised for data after the end of a stream.
DECOMPRESSION_ERRORS: tuple[type[Exception], ...] = (
    cast("type[Exception]", IsalError),  # isal's stubs declare it as an instance
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    EOFError,
    ValueError,
)


class Decompressor(Protocol):
    """Decompressor of one stream."""

    @property
    def ended(self) -> bool:
        """Whether the end of the stream has been reached."""

    @property
    def unused(self) -> bytes:
        """Input after the end of the stream."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress some input, in chunks."""


def deflate() -> Decompressor:
    """Decompressor for a raw DEFLATE stream, as in ZIP files."""
    return _Inflate(_RAW_DEFLATE)


def gzip() -> Decompressor:
    """Decompressor for one member of a gzip file."""
    return _Inflate(_GZIP)


def bzip2() -> Decompressor:
    """Decompressor for one stream of a bzip2 file."""
    return _BufferingDecompressor(bz2.BZ2Decompressor())


def xz() -> Decompressor:
    """Decompressor for one stream of an xz file."""
    return _BufferingDecompressor(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES))


def lzma_alone() -> Decompressor:
    """Decompressor for one LZMA stream with the header of the old `.lzma` format, of which ZIP has the parts."""
    return _BufferingDecompressor(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=LZMA_MEMORY_BYTES))


def zstd() -> Decompressor:
    """Decompressor for one frame of a Zstandard file."""
    return _Zstd()


def decompress_one(compressed: Iterable[bytes], decompressor: Decompressor) -> Iterator[bytes]:
    """Content of exactly one stream.

    Raises:
        InvalidInput: it is damaged or truncated, or data follows it.
    """
    try:
        for data in compressed:
            if decompressor.ended:
                raise errors.damaged("there is data after the end of a stream")
            yield from decompressor.feed(data)
    except DECOMPRESSION_ERRORS as error:
        raise _translate(error) from error
    if not decompressor.ended:
        raise errors.damaged("compressed data is truncated")
    if decompressor.unused:
        raise errors.damaged("there is data after the end of a stream")


def decompress_all(compressed: Iterable[bytes], new: Callable[[], Decompressor]) -> Iterator[bytes]:
    """Content of concatenated streams, as in `cat a.gz b.gz`; zeros may pad the end.

    Raises:
        InvalidInput: a stream is damaged or truncated, or other data follows.
    """
    decompressor = new()
    begun = False
    try:
        for data in compressed:
            rest = data
            while rest:
                if not begun and not (rest := rest.lstrip(b"\0")):
                    break
                begun = True
                yield from decompressor.feed(rest)
                if not decompressor.ended:
                    break
                rest, decompressor, begun = decompressor.unused, new(), False
    except DECOMPRESSION_ERRORS as error:
        raise _translate(error) from error
    if begun:
        raise errors.damaged("compressed data is truncated")


def _translate(error: Exception) -> Exception:
    """Translates the libraries' exceptions for damaged data; disk errors and our own pass unchanged."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if hasattr(error, "code"):
        return error
    if isinstance(error, lzma.LZMAError) and "emory" in str(error):
        return errors.over_limit(f"decompressing it needs more than {XZ_MEMORY_BYTES} bytes of memory")
    return errors.damaged("compressed data is invalid")


class _Inflate:
    def __init__(self, window: int) -> None:
        self._decompressor = isal_zlib.decompressobj(window)

    @property
    def ended(self) -> bool:
        return bool(self._decompressor.eof)

    @property
    def unused(self) -> bytes:
        return bytes(self._decompressor.unused_data)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            chunk = self._decompressor.decompress(data, CHUNK_BYTES)
            if chunk:
                yield chunk
            data = self._decompressor.unconsumed_tail
            # After a full chunk the decompressor may hold more output although it took all input.
            if self._decompressor.eof or (not data and len(chunk) < CHUNK_BYTES):
                return


class _BufferingDecompressor:
    def __init__(self, decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._decompressor = decompressor

    @property
    def ended(self) -> bool:
        return self._decompressor.eof

    @property
    def unused(self) -> bytes:
        return self._decompressor.unused_data

    def feed(self, data: bytes) -> Iterator[bytes]:
        while not self._decompressor.eof:
            chunk = self._decompressor.decompress(data, CHUNK_BYTES)
            data = b""
            if chunk:
                yield chunk
            elif self._decompressor.needs_input:
                return


class _Zstd:
    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES).decompressobj()
        self._left = b""

    @property
    def ended(self) -> bool:
        return self._decompressor.eof

    @property
    def unused(self) -> bytes:
        return self._decompressor.unused_data + self._left

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE_BYTES):
            chunk = self._decompressor.decompress(data[start : start + _ZSTD_SLICE_BYTES])
            if chunk:
                yield chunk
            if self._decompressor.eof:
                self._left = data[start + _ZSTD_SLICE_BYTES :]
                return

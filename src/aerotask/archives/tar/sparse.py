"""Sparse files in TAR archives, in GNU tar's four formats (GNU tar's manual, "Storing Sparse Files").

The old format continues the map of the header in blocks behind it; the three formats with `pax` records have the map in
records (0.0 and 0.1), or in front of the content (1.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from aerotask.archives import errors
from aerotask.archives.tar.headers import BLOCK_BYTES, MAX_EXTENDED_BYTES, Extended, Header, parse_number

SPARSE_KIND = b"S"
_PAIR_BYTES, _NUMBER_BYTES = 24, 12
_IN_HEADER, _IN_BLOCK = slice(386, 482), slice(0, 504)
_HEADER_IS_CONTINUED, _BLOCK_IS_CONTINUED = 482, 504
_HEADER_SIZE = slice(483, 495)
_DECIMAL = re.compile(rb"[0-9]{1,18}")

Read = Callable[[int], bytes]
"""Reads the next bytes of the archive."""


@dataclass(frozen=True, slots=True)
class SparseMap:
    """Length of the file with its holes, and the offset and length of each region that has content."""

    size_bytes: int
    regions: tuple[tuple[int, int], ...]
    map_bytes: int = 0
    """Bytes of the stored content that are the map's own."""

    @property
    def content_bytes(self) -> int:
        """Length of all regions."""
        return sum(length for _, length in self.regions)


def read_sparse_map(header: Header, extended: Extended, read: Read) -> SparseMap | None:
    """Map of a sparse member, read as far as it is behind the header; None for other members.

    Raises:
        InvalidInput: the map is invalid.
    """
    if header.kind == SPARSE_KIND:
        return _old_map(header.block, read)
    records = extended.sparse
    if b"major" in records:
        if (records[b"major"], records.get(b"minor")) != (b"1", b"0"):
            raise errors.damaged("a sparse file has an unknown format")
        return _map_in_content(_number(records.get(b"realsize")), read)
    if b"map" in records:
        return _checked(_number(records.get(b"size")), map(_number, records[b"map"].split(b",")))
    if extended.sparse_pairs or records:
        return _checked(_number(records.get(b"size")), map(_number, extended.sparse_pairs))
    return None


def _old_map(block: bytes, read: Read) -> SparseMap:
    size_bytes = parse_number(block[_HEADER_SIZE])
    fields, is_continued = block[_IN_HEADER], block[_HEADER_IS_CONTINUED] != 0
    while is_continued:
        block = read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES or len(fields) > MAX_EXTENDED_BYTES:
            raise _invalid()
        fields += block[_IN_BLOCK]
        is_continued = block[_BLOCK_IS_CONTINUED] != 0
    if size_bytes is None:
        raise _invalid()
    return _checked(size_bytes, _old_numbers(fields))


def _old_numbers(fields: bytes) -> Iterator[int]:
    """The numbers of the pairs up to the first unused one."""
    for at in range(0, len(fields), _PAIR_BYTES):
        if not fields[at]:
            return
        for begin in (at, at + _NUMBER_BYTES):
            number = parse_number(fields[begin : begin + _NUMBER_BYTES])
            if number is None:
                raise _invalid()
            yield number


def _map_in_content(size_bytes: int, read: Read) -> SparseMap:
    """Decimal numbers, one a line, in whole blocks: the number of regions, then their offsets and lengths."""
    text, numbers, count = b"", list[int](), None
    map_bytes = 0
    while count is None or len(numbers) < 2 * count:
        block = read(BLOCK_BYTES)
        map_bytes += len(block)
        if len(block) < BLOCK_BYTES or map_bytes > MAX_EXTENDED_BYTES:
            raise _invalid()
        *lines, text = (text + block).split(b"\n")
        if count is None and lines:
            count = _number(lines.pop(0))
        if count is not None:
            numbers += map(_number, lines[: 2 * count - len(numbers)])
    return _checked(size_bytes, numbers, map_bytes)


def _checked(size_bytes: int, numbers: Iterable[int], map_bytes: int = 0) -> SparseMap:
    """The map, whose regions must be in order and inside the file."""
    flat: Sequence[int] = list(numbers)
    if len(flat) % 2:
        raise _invalid()
    regions = tuple(zip(flat[::2], flat[1::2], strict=True))
    end = 0
    for offset, length in regions:
        if offset < end or offset + length > size_bytes:
            raise _invalid()
        end = offset + length
    return SparseMap(size_bytes, regions, map_bytes)


def _number(text: bytes | None) -> int:
    if text is None or not _DECIMAL.fullmatch(text):
        raise _invalid()
    return int(text)


def _invalid() -> Exception:
    return errors.damaged("the map of a sparse file is invalid")

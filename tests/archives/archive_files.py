"""Archive builders for tests: valid and hostile, byte by byte where no library would write them."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import inflate64
import py7zr
import pyppmd
import zstandard


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """ZIP written by zipfile; a name that ends with `/` is a folder."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def tarred(members: Mapping[str, bytes], *, form: int = tarfile.PAX_FORMAT) -> bytes:
    """TAR written by tarfile; a name that ends with `/` is a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            if name.endswith("/"):
                header.type = tarfile.DIRTYPE
            archive.addfile(header, io.BytesIO(content))
    return made.getvalue()


def sevenzipped(members: Mapping[str, bytes], **options: Any) -> bytes:
    """7z file written by py7zr."""
    made = io.BytesIO()
    with py7zr.SevenZipFile(made, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(content, name)
    return made.getvalue()


def tarred_special(name: str, kind: bytes, target: str = "") -> bytes:
    """TAR with one member that is not a file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        header = tarfile.TarInfo(name)
        header.type, header.linkname = kind, target
        archive.addfile(header)
    return made.getvalue()


def tar_block(
    name: bytes,
    kind: bytes,
    content: bytes = b"",
    *,
    length: bytes | None = None,
    link: bytes = b"",
    mtime: bytes = b"0\0",
    rest: bytes = b"",
) -> bytes:
    """TAR header with arbitrary bytes for its fields, and its content; `rest` is what follows the owner's names."""
    length = b"%011o\0" % len(content) if length is None else length
    start = struct.pack("<100s8s8s8s12s12s", name, b"0000644\0", b"0\0", b"0\0", length, mtime)
    magic = b"ustar  \0" if rest else b"ustar\x0000"  # GNU's, which has no prefix
    end = struct.pack("<c100s8s80x167s", kind, link, magic, rest)
    checksum = sum(start + b" " * 8 + end)
    return start + b"%06o\0 " % checksum + end + content + bytes(-len(content) % 512)


def pax(records: bytes) -> bytes:
    """Extended header with these bytes for records."""
    return tar_block(b"pax", b"x", records)


def pax_record(key: bytes, value: bytes) -> bytes:
    """Record of an extended header, prefixed with its length."""
    rest = b" %b=%b\n" % (key, value)
    length = next(n for n in range(len(rest), len(rest) + 10) if len(b"%d" % n) + len(rest) == n)
    return b"%d" % length + rest


def _octal(value: int) -> bytes:
    return b"%011o\0" % value


def old_sparse(regions: list[tuple[int, bytes]], size_bytes: int) -> bytes:
    """Sparse member of GNU's old format: four regions in the header, 21 in each block behind it."""
    pairs = [_octal(offset) + _octal(len(content)) for offset, content in regions]
    content = b"".join(content for _, content in regions)
    in_header, behind = b"".join(pairs[:4]), [pairs[at : at + 21] for at in range(4, len(pairs), 21)]
    rest = struct.pack("<41s96s?12s", b"", in_header, bool(behind), _octal(size_bytes))
    header = tar_block(b"sparse.bin", b"S", length=_octal(len(content)), rest=rest)
    blocks = [
        struct.pack("<504s?7x", b"".join(block), number < len(behind) - 1)
        for number, block in enumerate(behind)
    ]
    return header + b"".join(blocks) + content + bytes(-len(content) % 512)


def pax_sparse_1(
    regions: list[tuple[int, bytes]], size_bytes: int, *, name: bytes = b"sparse.bin", extra: bytes = b""
) -> bytes:
    """Sparse member of the format 1.0: the map is in front of the content; `extra` is a record for the stored length."""
    numbers = [len(regions), *(number for offset, content in regions for number in (offset, len(content)))]
    text = b"".join(b"%d\n" % number for number in numbers)
    stored = text + bytes(-len(text) % 512) + b"".join(content for _, content in regions)
    records = (
        pax_record(b"GNU.sparse.major", b"1")
        + pax_record(b"GNU.sparse.minor", b"0")
        + pax_record(b"GNU.sparse.name", name)
        + pax_record(b"GNU.sparse.realsize", b"%d" % size_bytes)
        + (pax_record(extra, b"%d" % len(stored)) if extra else b"")
    )
    return pax(records) + tar_block(b"GNUSparseFile.0/sparse.bin", b"0", stored)


@dataclass(frozen=True)
class Member:
    """ZIP member with arbitrary header fields."""

    name: str
    content: bytes
    method: int = 0
    crc32: int | None = None
    size_bytes: int | None = None
    flags: int = 0x0800
    attributes: int = 0o100644 << 16
    system: int = 3
    """System that made it: 0 is DOS and Windows, 3 Unix."""
    raw_name: bytes | None = None
    """Stored name; None: the name in UTF-8."""
    dos_time: tuple[int, int] = (0, 0x21)
    extra: bytes = b""
    """Extra fields in the directory."""
    local_name: str | None = None
    local_size_bytes: int | None = None
    header_at: int | None = None
    """Offset in the directory; None: the real one."""

    @property
    def stored_name(self) -> bytes:
        """Name as bytes."""
        return self.name.encode() if self.raw_name is None else self.raw_name

    @property
    def checksum(self) -> int:
        """Declared CRC-32."""
        return zlib.crc32(self.content) if self.crc32 is None else self.crc32

    @property
    def length(self) -> int:
        """Declared length."""
        return len(self.content) if self.size_bytes is None else self.size_bytes


def zip_of(members: Iterable[Member], *, count: int | None = None, prefix: bytes = b"") -> bytes:
    """ZIP of members whose content is written as given."""
    body = bytearray(prefix)
    directory = bytearray()
    made = 0
    for member in members:
        made += 1
        at = len(body) if member.header_at is None else member.header_at
        if member.header_at is None:
            name = member.local_name.encode() if member.local_name else member.stored_name
            size = member.length if member.local_size_bytes is None else member.local_size_bytes
            body += struct.pack(
                "<4s5H3L2H",
                *(b"PK\3\4", 20, member.flags, member.method, *member.dos_time),
                *(member.checksum, len(member.content), size, len(name), 0),
            )
            body += name + member.content
        name = member.stored_name
        directory += struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\1\2", member.system << 8 | 20, 20, member.flags, member.method, *member.dos_time),
            *(member.checksum, len(member.content), member.length),
            *(len(name), len(member.extra), 0, 0, 0, member.attributes, at),
        )
        directory += name + member.extra
    declared = made if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, declared, declared, len(directory), len(body), 0)
    return bytes(body + directory + end)


def with_zip64_end(archive: bytes, **overrides: int) -> bytes:
    """The ZIP with a ZIP64 end record before its end record; `overrides` replaces `count`, `size` or `at` in it."""
    body, end = archive[:-22], archive[-22:]
    count, size, at = struct.unpack("<10xH2L", end[:20])
    fields = {"count": count, "size": size, "at": at, **overrides}
    wide = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\6\6",
        44,
        45,
        45,
        0,
        0,
        fields["count"],
        fields["count"],
        fields["size"],
        fields["at"],
    )
    return body + wide + struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1) + end


@dataclass(frozen=True)
class ZippedAs:
    """Content of a ZIP member as a method stores it."""

    method: int
    stored: bytes
    flags: int = 0x0800


def lzma_member(content: bytes, *, dictionary_bytes: int = 1 << 20) -> ZippedAs:
    """LZMA as in ZIP (APPNOTE, section 5.8), with an end marker."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 3, "lp": 0, "pb": 2}]
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    stream = packer.compress(content) + packer.flush()
    head = struct.pack("<2BHBL", 9, 20, 5, 0x5D, dictionary_bytes)
    return ZippedAs(14, head + stream, 0x0802)


def ppmd_member(content: bytes, *, memory_mib: int = 1, order: int = 8, restoration: int = 0) -> ZippedAs:
    """PPMd as in ZIP (APPNOTE, section 5.10)."""
    packer = pyppmd.Ppmd8Encoder(order, memory_mib << 20, restoration)
    head = struct.pack("<H", (order - 1) | (memory_mib - 1) << 4 | restoration << 12)
    return ZippedAs(98, head + packer.encode(content) + packer.flush(endmark=True))


def deflate64_member(content: bytes) -> ZippedAs:
    """Deflate64, as Windows' Explorer uses it for large files."""
    packer = inflate64.Deflater()
    return ZippedAs(9, packer.deflate(content) + packer.flush())


def zstd_member(content: bytes, *, window_log: int = 20) -> ZippedAs:
    """Zstandard with a window of that size."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return ZippedAs(93, packer.compress(content) + packer.flush())


ZIP_METHODS: dict[str, Callable[[bytes], ZippedAs]] = {
    "deflate64": deflate64_member,
    "lzma": lzma_member,
    "ppmd": ppmd_member,
    "zstd": zstd_member,
    "xz": lambda content: ZippedAs(95, lzma.compress(content)),
}


def zipped_as(name: str, content: bytes, made: ZippedAs) -> Member:
    """Member whose content a method has compressed."""
    return Member(name, made.stored, made.method, zlib.crc32(content), len(content), made.flags)


def deflated(content: bytes) -> bytes:
    """Raw DEFLATE stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def rar_of(members: Mapping[str, bytes]) -> bytes:
    """RAR (version 5) with stored members: no free program writes RAR."""
    made = bytearray(b"Rar!\x1a\x07\x01\x00") + _rar_block(1, 0, b"\0")
    for name, content in members.items():
        raw = name.encode()
        fields = (
            _vint(len(content)) + _vint(4) + _vint(len(content)) + _vint(0o100644)
            + struct.pack("<L", zlib.crc32(content)) + _vint(0) + _vint(1) + _vint(len(raw)) + raw
        )  # fmt: skip
        made += _rar_block(2, 2, fields) + content
    return bytes(made + _rar_block(5, 0, b"\0"))


def _rar_block(kind: int, flags: int, fields: bytes) -> bytes:
    body = _vint(kind) + _vint(flags) + fields
    sized = _vint(len(body)) + body
    return struct.pack("<L", zlib.crc32(sized)) + sized


def _vint(value: int) -> bytes:
    coded = bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*coded, value])

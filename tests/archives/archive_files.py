"""Archive builders for tests: valid and hostile, byte by byte where no library would write them."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import py7zr


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


def tar_block(name: bytes, kind: bytes, content: bytes = b"", *, length: bytes | None = None) -> bytes:
    """TAR header with arbitrary bytes for name and length, and its content."""
    length = b"%011o\0" % len(content) if length is None else length
    start = struct.pack("<100s8s8s8s12s12s", name, b"0000644\0", b"0\0", b"0\0", length, b"0\0")
    end = struct.pack("<c100s8s247x", kind, b"", b"ustar\x0000")
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
    local_name: str | None = None
    local_size_bytes: int | None = None
    header_at: int | None = None
    """Offset in the directory; None: the real one."""

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
            name = (member.local_name or member.name).encode()
            size = member.length if member.local_size_bytes is None else member.local_size_bytes
            body += struct.pack(
                "<4s5H3L2H",
                *(b"PK\3\4", 20, member.flags, member.method, 0, 0x21),
                *(member.checksum, len(member.content), size, len(name), 0),
            )
            body += name + member.content
        name = member.name.encode()
        directory += struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\1\2", 3 << 8 | 20, 20, member.flags, member.method, 0, 0x21),
            *(member.checksum, len(member.content), member.length),
            *(len(name), 0, 0, 0, 0, member.attributes, at),
        )
        directory += name
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

"""Archive format detection by magic bytes: file names can't be trusted."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from enum import StrEnum

from aerotask.archives.tar.reader import looks_like_tar

HEAD_BYTES = 512


class ArchiveFormat(StrEnum):
    """Container and compression formats."""

    ZIP = "ZIP"
    SEVEN_ZIP = "7z"
    RAR = "RAR"
    TAR = "TAR"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "Zstandard"


_MAGIC = (
    (b"PK\3\4", ArchiveFormat.ZIP),
    (b"PK\5\6", ArchiveFormat.ZIP),
    (b"PK\7\x08", ArchiveFormat.ZIP),
    (b"PK00PK\3\4", ArchiveFormat.ZIP),  # one that was to be split, and fitted into one part
    (b"7z\xbc\xaf\x27\x1c", ArchiveFormat.SEVEN_ZIP),
    (b"Rar!\x1a\x07", ArchiveFormat.RAR),
    (b"\x1f\x8b", ArchiveFormat.GZIP),
    (b"BZh", ArchiveFormat.BZIP2),
    (b"\xfd7zXZ\0", ArchiveFormat.XZ),
    (b"\x28\xb5\x2f\xfd", ArchiveFormat.ZSTD),
)
_NO_ARCHIVE_TYPES = ("text/", "image/", "video/", "audio/")
SINGLE_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
# 7-Zip numbers the parts of every format; WinZip and WinRAR have suffixes of their own.
_VOLUME_NAMES: Mapping[str, re.Pattern[str]] = {
    "ZIP": re.compile(r"\.(?:zip\.[0-9]{3,}|z[0-9]{2,})$", re.IGNORECASE),
    "7z": re.compile(r"\.7z\.[0-9]{3,}$", re.IGNORECASE),
    "RAR": re.compile(r"\.(?:part[0-9]+\.rar|rar\.[0-9]{3,}|r[0-9]{2,})$", re.IGNORECASE),
    "TAR": re.compile(r"\.(?:tar(?:\.[a-z0-9]+)?|tgz)\.[0-9]{3,}$", re.IGNORECASE),
}
_RAR4, _RAR5 = b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"
_RAR_MAIN_HEADER = {_RAR4: 0x73, _RAR5: 1}
_RAR_IS_VOLUME = 1


def format_of(head: bytes, name: str) -> ArchiveFormat | None:
    """Format of a file by its first bytes; the name decides only for a block of zeros."""
    for magic, detected in _MAGIC:
        if head.startswith(magic):
            return detected
    return ArchiveFormat.TAR if looks_like_tar(head, name) else None


def may_be_archive(path: str) -> bool:
    """Whether a file of that name may be an archive; only its content can confirm it."""
    media_type, compression = mimetypes.guess_type(path, strict=False)
    return compression is not None or not (media_type or "").startswith(_NO_ARCHIVE_TYPES)


def decompressed_name(name: str) -> str:
    """Name of a single compressed file without its compression suffix: `a.laz.gz` → `a.laz`."""
    lowered = name.lower()
    suffix = next((suffix for suffix in SINGLE_SUFFIXES if lowered.endswith(suffix)), "")
    return name.removesuffix(name[len(name) - len(suffix) :]) if suffix and name != suffix else name + ".out"


def volume_kind(name: str) -> str | None:
    """Format of the multi-volume archive of which a file of that name is a part; None for other names."""
    return next((kind for kind, pattern in _VOLUME_NAMES.items() if pattern.search(name)), None)


def is_rar_volume(head: bytes) -> bool:
    """Whether a RAR is one of several volumes, by its main header (RAR 5.0 archive format; `technote.txt` of RAR 4)."""
    if head.startswith(_RAR4):
        return len(head) > 11 and head[9] == _RAR_MAIN_HEADER[_RAR4] and bool(head[10] & _RAR_IS_VOLUME)
    numbers = _variable_integers(head[len(_RAR5) + 4 :])  # behind the signature and the header's checksum
    if not head.startswith(_RAR5) or len(numbers) < 5 or numbers[1] != _RAR_MAIN_HEADER[_RAR5]:
        return False
    has_extra = numbers[2] & 1
    return bool(numbers[4 if has_extra else 3] & _RAR_IS_VOLUME)


def _variable_integers(data: bytes) -> list[int]:
    """The first numbers in seven bits a byte, all but the last byte of each marked."""
    numbers, value, shift = list[int](), 0, 0
    for byte in data[:40]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    return numbers

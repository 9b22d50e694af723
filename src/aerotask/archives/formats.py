"""Archive format detection by magic bytes: file names can't be trusted."""

from __future__ import annotations

import mimetypes
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
    (b"7z\xbc\xaf\x27\x1c", ArchiveFormat.SEVEN_ZIP),
    (b"Rar!\x1a\x07", ArchiveFormat.RAR),
    (b"\x1f\x8b", ArchiveFormat.GZIP),
    (b"BZh", ArchiveFormat.BZIP2),
    (b"\xfd7zXZ\0", ArchiveFormat.XZ),
    (b"\x28\xb5\x2f\xfd", ArchiveFormat.ZSTD),
)
_NO_ARCHIVE_TYPES = ("text/", "image/", "video/", "audio/")
SINGLE_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


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

"""What kind of archive a file is, by its first bytes: its name may say anything."""

from __future__ import annotations

import mimetypes
from enum import StrEnum

from aerotask.archives.tar.reader import looks_like_tar

HEAD_BYTES = 512


class ArchiveFormat(StrEnum):
    """The containers and the compressions that are told apart."""

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
_NEVER = ("text/", "image/", "video/", "audio/")
SINGLE_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


def format_of(head: bytes, name: str) -> ArchiveFormat | None:
    """The format of a file that begins so; the name decides only about nothing but zeros."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return ArchiveFormat.TAR if looks_like_tar(head, name) else None


def may_be_archive(path: str) -> bool:
    """Whether a file of that name may be an archive; no name says for certain that it is one."""
    kind, packing = mimetypes.guess_type(path, strict=False)
    return packing is not None or not (kind or "").startswith(_NEVER)


def unpacked_name(name: str) -> str:
    """What a single compressed file is called without its compression: `a.laz.gz` → `a.laz`."""
    lowered = name.lower()
    suffix = next((suffix for suffix in SINGLE_SUFFIXES if lowered.endswith(suffix)), "")
    return name.removesuffix(name[len(name) - len(suffix) :]) if suffix and name != suffix else name + ".out"

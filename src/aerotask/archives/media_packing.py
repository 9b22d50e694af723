"""Which files are packed already, so that deflating them would only take time."""

from __future__ import annotations

from aerotask.metadata.file_types import suffix_of

_PACKED = frozenset(
    suffix
    for group in (
        "jpg jpeg png webp gif heic avif jp2 jxl",
        "mp4 mov m4v avi mkv webm mp3 ogg",
        "laz e57 nxz pmtiles kmz 3tz",
        "zip 7z rar gz tgz bz2 tbz2 xz txz zst tzst br lz4",
        "pdf docx xlsx pptx odt ods odp jar whl apk",
    )
    for suffix in group.split()
)


def is_packed(path: str) -> bool:
    """Whether a file of that name has a format that compresses by itself."""
    return suffix_of(path) in _PACKED

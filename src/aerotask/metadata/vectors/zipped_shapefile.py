"""Shapefiles that were packed into a ZIP with their side files, as they are usually passed on."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

MAX_MEMBERS = 1_000
MAX_UNPACKED_BYTES = 4 * 1024**3
_REQUIRED = ("shx", "dbf")
_END = b"PK\x05\x06"
_END_BYTES = 22
_MAX_COMMENT_BYTES = 65_535


def shapefile_in(path: Path) -> str | None:
    """Name of the only Shapefile in the ZIP at `path`, with its side files; None for any other archive."""
    if not 0 < _members(path) <= MAX_MEMBERS:
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                member.filename: member.file_size
                for member in archive.infolist()
                if not member.is_dir() and not member.filename.startswith("__MACOSX/")
            }
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return None
    found = [name for name in members if name.lower().endswith(".shp")]
    if len(found) != 1 or sum(members.values()) > MAX_UNPACKED_BYTES:
        return None
    stem = found[0][: -len(".shp")]
    present = {name.lower() for name in members if name.startswith(f"{stem}.")}
    if not all(f"{stem}.{suffix}".lower() in present for suffix in _REQUIRED):
        return None
    return found[0]


def table_of(path: Path, shapefile: str, head_bytes: int) -> tuple[bytes, int]:
    """Start and unpacked length of the Shapefile's table (`.dbf`) in the ZIP at `path`; nothing if it can't be read."""
    name = f"{shapefile[: -len('.shp')]}.dbf".lower()
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(each for each in archive.infolist() if each.filename.lower() == name)
            with archive.open(member) as table:
                return table.read(head_bytes), member.file_size
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError, RuntimeError):
        return b"", 0


def _members(path: Path) -> int:
    """Number of members by the record at a ZIP's end, without reading its directory; 0 if there is none."""
    size = path.stat().st_size
    with path.open("rb") as archive:
        archive.seek(max(0, size - _MAX_COMMENT_BYTES - _END_BYTES))
        tail = archive.read()
    at = tail.rfind(_END)
    return int.from_bytes(tail[at + 10 : at + 12], "little") if at >= 0 else 0

"""Comparison of a stored file with its row, and copies whose hash is checked on the way."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Protocol

from aerotask.blobs.ingest import sync_folder
from aerotask.domain.errors import ContentDamaged

_READ_BYTES = 1024 * 1024


def wrong_length(key: str, found_bytes: int, expected_bytes: int | None) -> ContentDamaged:
    """The error for a blob whose length isn't the one in its row."""
    return ContentDamaged(key, f"it has {found_bytes} bytes instead of {expected_bytes}")


def wrong_hash(key: str, found_sha256: str) -> ContentDamaged:
    """The error for a blob whose hash isn't the one in its row."""
    return ContentDamaged(key, f"its content has changed, its SHA-256 is {found_sha256}")


def find_damage(key: str, file: Path, *, size_bytes: int | None, sha256: str | None) -> ContentDamaged | None:
    """The damage of a blob's file, or None; lengths and hashes that are None aren't compared.

    Raises:
        OSError: the storage fails.
    """
    try:
        found_bytes = file.stat().st_size
        if size_bytes is not None and found_bytes != size_bytes:
            return wrong_length(key, found_bytes, size_bytes)
        if sha256 is not None:
            with file.open("rb") as content:
                found_sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            return None if found_sha256 == sha256 else wrong_hash(key, found_sha256)
    except FileNotFoundError:
        return ContentDamaged(key, "its file is missing")
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return ContentDamaged(key, "the disk can't read it")
    return None


class Readable(Protocol):
    """Content that is read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; none at the end."""


def write_checked(content: Readable, file: Path, *, sha256: str, mode: int = 0o644) -> bool:
    """Writes content to a file, durable on return; False, with no file left, if it doesn't have that hash."""
    digest = hashlib.sha256()
    with file.open("wb") as target:
        while chunk := content.read(_READ_BYTES):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fchmod(target.fileno(), mode)
        os.fsync(target.fileno())
    if digest.hexdigest() == sha256:
        return True
    file.unlink()
    return False


def store_checked(content: Readable, file: Path, *, sha256: str, partial: Path) -> bool:
    """Makes content a blob's file if it has the hash, through the temporary file `partial`; durable on return.

    Raises:
        OSError: the disk is full or fails.
    """
    try:
        if not write_checked(content, partial, sha256=sha256, mode=0o444):
            return False
        file.parent.mkdir(mode=0o700, exist_ok=True)
        partial.rename(file)
        sync_folder(file.parent)
    finally:
        partial.unlink(missing_ok=True)
    return True

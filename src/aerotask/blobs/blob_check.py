"""Comparison of a stored file with its row, and its repair from a copy."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

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


def replace_file(file: Path, copy: Path, *, sha256: str, partial: Path) -> bool:
    """Replaces a blob's file by a copy if that has the hash, through the temporary file `partial`; durable on return.

    Raises:
        FileNotFoundError: there is no such copy.
        OSError: the disk is full or fails.
    """
    digest = hashlib.sha256()
    try:
        with copy.open("rb") as source, partial.open("xb") as target:
            while chunk := source.read(_READ_BYTES):
                digest.update(chunk)
                target.write(chunk)
            if digest.hexdigest() != sha256:
                return False
            target.flush()
            os.fchmod(target.fileno(), 0o444)
            os.fsync(target.fileno())
        file.parent.mkdir(mode=0o700, exist_ok=True)
        partial.rename(file)
        sync_folder(file.parent)
    finally:
        partial.unlink(missing_ok=True)
    return True

"""Comparison of blobs with their rows, and their repair."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.storage import new_storage

from aerotask.blobs.blob_store import Blob
from aerotask.blobs.local import LocalBlobs
from aerotask.domain.errors import ContentDamaged


async def stored(folder: Path, content: bytes) -> tuple[LocalBlobs, Blob, Path]:
    async def once() -> AsyncIterator[bytes]:
        yield content

    blobs = new_storage(folder)
    blob = await blobs.put(once(), limit_bytes=100)
    return blobs, blob, folder / "blobs" / blob.key[-2:] / blob.key


async def reason(blobs: LocalBlobs, blob: Blob, *, sha256: str | None = None) -> str | None:
    damage = await blobs.find_damage(blob.key, size_bytes=blob.size_bytes, sha256=sha256)
    return None if damage is None else damage.reason


async def test_an_intact_blob_has_no_damage(tmp_path: Path) -> None:
    blobs, blob, _ = await stored(tmp_path, b"content")
    assert await reason(blobs, blob, sha256=blob.sha256) is None


async def test_length_hash_and_absence_are_told_apart(tmp_path: Path) -> None:
    blobs, blob, file = await stored(tmp_path, b"content")
    file.chmod(0o600)
    file.write_bytes(b"Content")
    altered = hashlib.sha256(b"Content").hexdigest()
    assert await reason(blobs, blob) is None
    assert (
        await reason(blobs, blob, sha256=blob.sha256) == f"its content has changed, its SHA-256 is {altered}"
    )
    file.write_bytes(b"con")
    assert await reason(blobs, blob) == "it has 3 bytes instead of 7"
    file.unlink()
    assert await reason(blobs, blob) == "its file is missing"


async def test_a_blob_of_another_length_is_not_opened(tmp_path: Path) -> None:
    blobs, blob, file = await stored(tmp_path, b"content")
    file.chmod(0o600)
    file.write_bytes(b"con")
    with pytest.raises(ContentDamaged):
        await blobs.open(blob.key, size_bytes=blob.size_bytes)


@pytest.mark.parametrize("folder", ["backup", "backup/blobs"])
async def test_a_blob_is_repaired_only_from_an_intact_copy(tmp_path: Path, folder: str) -> None:
    blobs, blob, file = await stored(tmp_path / "storage", b"content")
    copy = tmp_path / "backup" / "blobs" / file.parent.name / file.name
    copy.parent.mkdir(parents=True)
    file.unlink()
    assert not await blobs.repair(blob.key, tmp_path / folder, sha256=blob.sha256)
    copy.write_bytes(b"Content")
    assert not await blobs.repair(blob.key, tmp_path / folder, sha256=blob.sha256)
    assert not file.exists()
    copy.write_bytes(b"content")
    assert await blobs.repair(blob.key, tmp_path / folder, sha256=blob.sha256)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"content", 0o444)
    assert list((tmp_path / "storage" / "partial").iterdir()) == []

"""Real drone data: written by our writer, listed by zipfile, extracted by our reader, byte for byte equal."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from tests.archives.conftest import Extract
from tests.raster.real_data import real_data

from aerotask.archives.zip.writer import ZipSource, write_zip

__all__ = ["real_data"]


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def test_photos_rasters_clouds_and_meshes_survive_a_round_trip(
    real_data: Path, tmp_path: Path, extracted: Extract
) -> None:
    files = {
        file.relative_to(real_data).as_posix(): file
        for file in sorted(real_data.rglob("*"))
        if file.is_file()
    }
    sources = [
        ZipSource(path, int(file.stat().st_mtime), file, file.stat().st_size) for path, file in files.items()
    ]
    target = tmp_path / "all.zip"
    written = write_zip(target, sources, threads=2, on_progress=lambda _: None)
    assert (written.members, written.sha256) == (len(files), sha256(target))
    with zipfile.ZipFile(target) as archive:
        stored = {info.filename for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED}
    assert {path for path in files if path.endswith((".JPG", ".laz"))} <= stored
    found = extracted(target.read_bytes())
    assert {file.path: sha256(file.file) for file in found.files} == {
        path: sha256(file) for path, file in files.items()
    }

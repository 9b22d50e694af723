"""Extraction fixtures: everything is wanted, and callbacks do nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aerotask.archives.extract import Extraction, extract
from aerotask.archives.extract_request import ExtractRequest
from aerotask.archives.member_filter import AnnouncedTotals
from aerotask.archives.name_encoding import AUTO, NameEncoding
from aerotask.archives.space_budget import SpaceBudget
from aerotask.domain.errors import InvalidInput
from aerotask.sdk.limits import Limits

Extract = Callable[..., Extraction]


@pytest.fixture
def extracted(tmp_path: Path) -> Extract:
    """Extracts an archive given as bytes."""

    def run(
        archive: bytes,
        *,
        path: str = "archive.zip",
        dest: str = "",
        limits: Limits | None = None,
        wanted: Callable[[str], bool] = lambda _: True,
        on_announced: Callable[[AnnouncedTotals], None] = lambda _: None,
        name_encoding: NameEncoding = AUTO,
        keep_litter: bool = False,
    ) -> Extraction:
        file = tmp_path / f"archive-{len(list(tmp_path.iterdir()))}"
        file.write_bytes(archive)
        return extract(
            ExtractRequest(
                archive=file,
                path=path,
                dest=dest,
                target_dir=tmp_path / f"{file.name}-out",
                budget=SpaceBudget(tmp_path, None),
                limits=limits or Limits(),
                is_wanted=wanted,
                on_announced=on_announced,
                on_progress=lambda _: None,
                threads=2,
                name_encoding=name_encoding,
                keep_litter=keep_litter,
            )
        )

    return run


@pytest.fixture
def refused(extracted: Extract) -> Callable[..., tuple[str, str]]:
    """Extracts an archive that must be rejected; returns the code and the message."""

    def run(archive: bytes, **options: object) -> tuple[str, str]:
        with pytest.raises(InvalidInput) as caught:
            extracted(archive, **options)
        return caught.value.code, caught.value.message

    return run


def contents(found: Extraction) -> dict[str, bytes]:
    """Extracted contents by path."""
    return {file.path: file.file.read_bytes() for file in found.files}

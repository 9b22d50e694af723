"""Folder of real drone data, where present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def real_data() -> Path:
    """The folder; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("AEROTASK_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"there is no real data at {folder}; AEROTASK_TEST_DATA says where it is")
    return folder

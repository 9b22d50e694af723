"""Errors of a full disk, as the system and SQLite raise them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aerotask.domain.disk_full import is_disk_full


def test_the_error_of_a_full_device_is_recognised() -> None:
    with (
        pytest.raises(OSError, match="No space left") as full,
        Path("/dev/full").open("wb", buffering=0) as device,
    ):
        device.write(b"a")
    assert is_disk_full(full.value)


def test_the_error_of_a_full_database_file_is_recognised(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "small")) as small:
        small.execute("PRAGMA max_page_count = 2")
        small.execute("CREATE TABLE t (content)")
        with pytest.raises(sqlite3.OperationalError) as full:
            small.execute("INSERT INTO t VALUES (zeroblob(100000))")
        with pytest.raises(sqlite3.OperationalError) as other:
            small.execute("SELECT * FROM missing")
    assert (is_disk_full(full.value), is_disk_full(other.value)) == (True, False)


def test_a_missing_file_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "missing").read_bytes()
    assert not is_disk_full(missing.value)

"""The folder of Postgres's programs."""

from pathlib import Path

import pytest

from aerotask.domain.errors import Unavailable
from aerotask.stack import postgres_programs
from aerotask.stack.postgres_programs import find_programs


def test_a_folder_that_has_the_program_is_found() -> None:
    assert (find_programs("pg_dump") / "pg_dump").is_file()


def test_the_newest_of_debians_versions_that_has_the_program_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, program in (("9", "pg_example"), ("17", "pg_example"), ("18", "postgres")):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        (folder / program).touch(mode=0o755)
    monkeypatch.setattr(postgres_programs, "_DEBIAN", tmp_path)
    assert find_programs("pg_example") == tmp_path / "17" / "bin"


def test_a_program_that_no_folder_has_is_named() -> None:
    with pytest.raises(Unavailable, match="program pg_example isn't installed"):
        find_programs("pg_example")

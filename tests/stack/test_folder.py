import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.stack.folder import FolderInUse, OwnedFolder, reachable_by_others


def test_a_second_owner_gets_the_process_id_of_the_first(tmp_path: Path) -> None:
    with (
        OwnedFolder(tmp_path / "data"),
        pytest.raises(FolderInUse, match=f"process with id {os.getpid()}"),
        OwnedFolder(tmp_path / "data"),
    ):
        pass


def test_a_folder_is_free_again_after_its_owner_was_killed(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from aerotask.domain.errors import InvalidInput
from aerotask.stack.folder import OwnedFolder
with OwnedFolder(Path({str(tmp_path / "data")!r})):
    print("owned", flush=True)
    import time; time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout:
        assert owner.stdout.readline() == b"owned\n"
        with pytest.raises(FolderInUse), OwnedFolder(tmp_path / "data"):
            pass
        owner.kill()
        owner.wait()
    with OwnedFolder(tmp_path / "data"):
        pass


@pytest.mark.parametrize(
    ("below", "reason"),
    [("notes.txt", "there is a file in its place"), ("notes.txt/data", "there is a file in its place")],
)
def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, below: str, reason: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidInput, match=f"data folder {tmp_path / below} can't be used: {reason}"):
        OwnedFolder(tmp_path / below).__enter__()


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(InvalidInput, match="data folder /proc/aerotask can't be used: "):
        OwnedFolder(Path("/proc/aerotask")).__enter__()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that the user of `as_user` may read and not write."""
    folder = Path(tempfile.mkdtemp(prefix="aerotask-test-"))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


AS_USER = """
import encodings.idna, os, pwd, sys
import aerotask.cli.app, aerotask.stack.stack, aerotask.stack.supervisor
if os.geteuid() == 0:  # permissions don't stop root; the modules are loaded, should `nobody` not reach them
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
aerotask.cli.app.main()
"""


def as_user(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command run as this user, or as `nobody` by root."""
    command = [sys.executable, "-c", AS_USER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_read_only_folder_and_one_that_may_not_be_made_are_named_without_a_trace(read_only: Path) -> None:
    for folder in (read_only, read_only / "data"):
        done = as_user("up", "--port", "0", "--data", str(folder))
        assert done.returncode == 1
        assert f"The data folder {folder} can't be used: " in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_sockets_get_a_short_folder_when_the_path_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    with OwnedFolder(deep) as folder:
        sockets = folder.socket_folder()
        assert len(str(sockets)) < 60
        assert sockets == folder.socket_folder()
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()


def test_a_folder_has_one_place_outside_and_removes_no_other(tmp_path: Path) -> None:
    with OwnedFolder(tmp_path / "a") as a, OwnedFolder(tmp_path / "b") as b:
        first, of_b = a.make_outside(), b.make_outside()
        assert [a.outside, b.outside] == [first, of_b]
        second = a.make_outside()
        assert second != first
        assert not first.exists()
        a.remove_outside()
        assert [a.outside, second.exists(), of_b.is_dir()] == [None, False, True]
        b.discard()
        assert not of_b.exists()
        (tmp_path / "precious").mkdir()
        (a.path / "outside-home").write_text(f"{tmp_path / 'precious'}\n")
        a.discard()
    assert (tmp_path / "precious").is_dir()


def test_a_place_outside_that_holds_a_database_is_only_discarded(tmp_path: Path) -> None:
    with OwnedFolder(tmp_path / "data") as folder:
        outside = folder.make_outside()
        (outside / "postgres" / "data").mkdir(parents=True)
        folder.remove_outside()
        assert folder.old_database() == outside / "postgres" / "data"
        folder.discard()
        assert not outside.exists()


def test_a_file_is_reachable_by_others_only_if_every_parent_folder_is(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o644)
    assert not reachable_by_others(file)
    assert reachable_by_others(Path("/usr/bin/env"))

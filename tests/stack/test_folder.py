import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_sockets_get_a_short_folder_when_the_path_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    with OwnedFolder(deep) as folder:
        sockets = folder.socket_folder()
        assert len(str(sockets)) < 60
        assert sockets == folder.socket_folder()
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()


def test_a_new_folder_never_gets_the_leftovers_of_another(tmp_path: Path) -> None:
    with OwnedFolder(tmp_path / "a") as a, OwnedFolder(tmp_path / "b") as b:
        outside_a, outside_b = a.outside_home(), b.outside_home()
        assert outside_a != outside_b
        assert a.outside_home() == outside_a
        a.discard()
        b.discard()
    assert not outside_a.exists()
    assert not outside_b.exists()


def test_a_file_is_reachable_by_others_only_if_every_parent_folder_is(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o644)
    assert not reachable_by_others(file)
    assert reachable_by_others(Path("/usr/bin/env"))

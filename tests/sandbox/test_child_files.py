"""Files that a running child declares: only regular ones of its work folder are taken, as copies."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aerotask.domain.errors import TaskFailed
from aerotask.sandbox.child_files import take_file

CONTENT = bytes(range(256)) * 10_000


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work" / "inner").mkdir(parents=True)
    return tmp_path / "work"


def take(
    file: Path,
    work: Path,
    *,
    require_space: Callable[[int], None] = lambda _bytes: None,
    stopped: Callable[[], bool] = lambda: False,
) -> str | None:
    target = work.parent / "copy"
    return take_file(file, target, workdir=work, require_space=require_space, stopped=stopped)


def test_a_file_is_moved_out_of_the_work_folder_and_hashed(work: Path) -> None:
    (work / "inner" / "made").write_bytes(CONTENT)
    assert take(work / "inner" / "made", work) == hashlib.sha256(CONTENT).hexdigest()
    assert (work.parent / "copy").read_bytes() == CONTENT
    assert list((work / "inner").iterdir()) == []


def test_a_child_that_keeps_its_file_open_can_not_change_the_copy(work: Path) -> None:
    with (work / "made").open("wb") as own:
        own.write(b"as checked")
        own.flush()
        take(work / "made", work)
        own.seek(0)
        own.write(b"as altered")
        own.flush()
    assert (work.parent / "copy").read_bytes() == b"as checked"


def test_a_child_may_remove_its_file_meanwhile(work: Path) -> None:
    (work / "made").write_bytes(b"made")
    assert take(work / "made", work, require_space=lambda _bytes: (work / "made").unlink()) is not None
    assert (work.parent / "copy").read_bytes() == b"made"


def outside(work: Path) -> Path:
    (work.parent / "secret").write_bytes(b"of others")
    return work.parent / "secret"


def link(work: Path) -> Path:
    (work / "link").symlink_to(outside(work))
    return work / "link"


def link_of_a_folder(work: Path) -> Path:
    outside(work)
    (work / "folder").symlink_to(work.parent)
    return work / "folder" / "secret"


def way_out(work: Path) -> Path:
    outside(work)
    return work / ".." / "secret"


def pipe(work: Path) -> Path:
    os.mkfifo(work / "pipe")
    return work / "pipe"


@pytest.mark.parametrize(
    "declare",
    [outside, link, link_of_a_folder, way_out, pipe, lambda work: work / "inner", lambda work: work / "no"],
    ids=["outside", "link", "link of a folder", "way out", "pipe", "folder", "missing"],
)
def test_nothing_else_is_taken(work: Path, declare: Callable[[Path], Path]) -> None:
    with pytest.raises(TaskFailed) as refused:
        take(declare(work), work)
    assert refused.value.code == "bad-output"
    assert not (work.parent / "copy").exists()


def test_a_copy_that_has_no_room_is_not_begun(work: Path) -> None:
    def require_space(more_bytes: int) -> None:
        raise OSError(errno.ENOSPC, f"no room for {more_bytes}")

    (work / "made").write_bytes(CONTENT)
    with pytest.raises(OSError, match="no room for 2560000"):
        take(work / "made", work, require_space=require_space)
    assert (work / "made").exists()


def test_a_copy_ends_early_once_it_is_stopped(work: Path) -> None:
    (work / "made").write_bytes(CONTENT)
    answers = iter([False, True])
    assert take(work / "made", work, stopped=lambda: next(answers)) is None
    assert (work / "made").exists()

"""Account of their own for children, where the process has the right to hand them over to one.

Root has it, and so has another account with these capabilities, as in compose (see `has_own_account`). Files of API and
workers then belong to somebody else, and so do their processes. A right to read past modes (root has it) stays where
Landlock limits what can be read: Python and the way to the work folder may be open to their owner alone. Without that
right, the folders on the way are opened to the account's group; where that isn't possible, children keep the account
of their worker.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aerotask.sandbox.kernel.capabilities import DAC_READ_SEARCH, drop_capabilities, effective_capabilities

CHILD_ID = 60989
"""Number of the account and its group, from a range that systems leave unused; nobody else should have it."""
# CHOWN and DAC_OVERRIDE: to give a folder away, and to store and remove what was written there.
_TO_GIVE_FOLDERS = 1 << 0 | 1 << 1
# KILL, SETGID and SETUID: to change the account of a child, and to end it.
_TO_CHANGE_ACCOUNT = 1 << 5 | 1 << 6 | 1 << 7
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_KEEPCAPS = 1, 2, 8


def has_own_account(*, with_folders: bool = True) -> bool:
    """True if this process can hand children over to the account, `with_folders` to write to."""
    needed = _TO_CHANGE_ACCOUNT | (_TO_GIVE_FOLDERS if with_folders else 0)
    if sys.platform != "linux" or effective_capabilities() & needed != needed:
        return False
    return all(_is_mapped(Path(f"/proc/self/{kind}_map")) for kind in ("uid", "gid"))


def can_reach(*, code: Iterable[Path], work: Path) -> bool:
    """True if the account can pass to the program's folders, and to the work folders, or these can be opened to it."""
    if _reads_past_modes():
        return True
    try:
        opened = all(_is_open(folder) or _can_be_opened(folder) for folder in (*_way_to(work), work))
        return opened and all(map(_is_reached, code))
    except OSError:
        return False


def become_child_account(*, code: Iterable[Path], reads: Sequence[Path], owned: Sequence[Path]) -> bool:
    """Go on as the account, for good, which can pass to `reads` and gets the folders `owned`.

    False, with the process as it was, if a file system refuses this, as network ones may, or if folders on the way to
    these or to the program's own, `code`, are closed to the account.

    Raises:
        OSError: the kernel refuses.
    """
    if not (_reads_past_modes() or all(map(_is_reached, code))):
        return False
    with _same_death_signal():
        groups, group = os.getgroups(), os.getresgid()
        os.setgroups([])
        # First the group: only its members can set a folder's bit to pass it on.
        os.setresgid(CHILD_ID, CHILD_ID, CHILD_ID)
        if not _hand_over(reads, owned):
            os.setresgid(*group)
            os.setgroups(groups)
            return False
        ctypes.CDLL(None).prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setresuid(CHILD_ID, CHILD_ID, CHILD_ID)
        drop_capabilities(keep=[DAC_READ_SEARCH], ambient=True)
    # The account has no entry in the system's list, where libraries would look for its name.
    os.environ["LOGNAME"] = "aerotask-child"
    return True


@contextmanager
def _same_death_signal() -> Iterator[None]:
    """Set the signal for the parent's death again, which the kernel forgets when user or group change."""
    libc = ctypes.CDLL(None, use_errno=True)
    death_signal = ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(death_signal), 0, 0, 0)
    parent = os.getppid()
    try:
        yield
    finally:
        libc.prctl(_PR_SET_PDEATHSIG, death_signal.value, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _hand_over(reads: Sequence[Path], owned: Sequence[Path]) -> bool:
    try:
        if not _reads_past_modes():
            for path in filter(Path.exists, (*reads, *owned)):
                _open_way(path)
            for path in reads:
                _open_below(path, besides=owned)
        for folder in owned:
            os.chown(folder, CHILD_ID, CHILD_ID)
    except OSError:
        return False
    return True


def _open_way(path: Path) -> None:
    """Let the account's group pass to the path.

    Raises:
        PermissionError: a folder on the way is closed to it, and not ours to open.
    """
    for folder in _way_to(path):
        if not _is_open(folder):
            if not _can_be_opened(folder):
                raise PermissionError(f"{folder} is closed to the account of the children")
            _open(folder, stat.S_IXGRP)


def _open_below(path: Path, *, besides: Sequence[Path]) -> None:
    """Let the group read these folders, and those that are made there later (S_ISGID)."""
    for name, folders, _ in os.walk(path):
        folder = Path(name)
        folders[:] = [each for each in folders if folder / each not in besides]
        if not folder.stat().st_mode & stat.S_IROTH:
            _open(folder, stat.S_IRGRP | stat.S_IXGRP | stat.S_ISGID)


def _open(folder: Path, rights: int) -> None:
    os.chown(folder, -1, CHILD_ID)
    folder.chmod(stat.S_IMODE(folder.stat().st_mode) | rights)


def _is_open(folder: Path) -> bool:
    status = folder.stat()
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == CHILD_ID else stat.S_IXOTH))


def _can_be_opened(folder: Path) -> bool:
    """True for a folder of this user with no rights for a group that would lose them."""
    status = folder.stat()
    return status.st_uid == os.geteuid() and (status.st_gid == CHILD_ID or not status.st_mode & stat.S_IRWXG)


def _way_to(path: Path) -> list[Path]:
    """The folders in which the path's names are looked up, from the root on."""
    return list(reversed(path.resolve().parents))


def _is_reached(path: Path) -> bool:
    """True if the account can pass there already; or if nothing is there."""
    return not path.exists() or all(map(_is_open, [*_way_to(path), *([path] if path.is_dir() else [])]))


def _reads_past_modes() -> bool:
    return bool(effective_capabilities() & 1 << DAC_READ_SEARCH)


def _is_mapped(table: Path) -> bool:
    """True if the number exists in this user namespace."""
    rows = (line.split() for line in table.read_text(encoding="ascii").splitlines())
    return any(int(first) <= CHILD_ID < int(first) + int(count) for first, _, count in rows)

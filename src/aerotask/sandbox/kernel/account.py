"""Account of their own for children, where the process has the right to hand them over to one: as root, above all.

Files of API and workers then belong to somebody else, and so do their processes. The right to read past modes stays where
Landlock limits what can be read: Python and the way to the work folder may be open to their owner alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from aerotask.sandbox.kernel.capabilities import DAC_READ_SEARCH, drop_capabilities, effective_capabilities

CHILD_ID = 60989
"""Number of the account and its group, from a range that systems leave unused; nobody else should have it."""
# To change the account (CHOWN, SETGID, SETUID), to kill such a child (KILL), and to store what it wrote (DAC_OVERRIDE,
# FOWNER).
_NEEDED = sum(1 << number for number in (0, 1, DAC_READ_SEARCH, 3, 5, 6, 7))
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_KEEPCAPS = 1, 2, 8


def has_own_account() -> bool:
    """True if this process can hand children over to the account."""
    if sys.platform != "linux" or effective_capabilities() & _NEEDED != _NEEDED:
        return False
    return all(_is_mapped(Path(f"/proc/self/{kind}_map")) for kind in ("uid", "gid"))


def give_to_child_account(folders: Iterable[Path]) -> bool:
    """Make the account the owner of these folders; False if their file system refuses, as network ones may."""
    try:
        for folder in folders:
            os.chown(folder, CHILD_ID, CHILD_ID)
    except OSError:
        return False
    return True


def become_child_account() -> None:
    """Go on as the account, for good.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel forgets the signal for the parent's death when the user changes.
    death_signal = ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(death_signal), 0, 0, 0)
    parent = os.getppid()
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(CHILD_ID, CHILD_ID, CHILD_ID)
    os.setresuid(CHILD_ID, CHILD_ID, CHILD_ID)
    drop_capabilities(keep=[DAC_READ_SEARCH], ambient=True)
    libc.prctl(_PR_SET_PDEATHSIG, death_signal.value, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    # The account has no entry in the system's list, where libraries would look for its name.
    os.environ["LOGNAME"] = "aerotask-child"


def _is_mapped(table: Path) -> bool:
    """True if the number exists in this user namespace."""
    rows = (line.split() for line in table.read_text(encoding="ascii").splitlines())
    return any(int(first) <= CHILD_ID < int(first) + int(count) for first, _, count in rows)

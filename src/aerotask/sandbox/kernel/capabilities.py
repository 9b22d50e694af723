"""Capabilities, as root has them: given up, also for programs that are executed later."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection
from typing import ClassVar

DAC_READ_SEARCH = 2
"""Reads files and passes folders whatever their modes say."""
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_VERSION_3 = 0x20080522
_MAX_CAPABILITIES = 64


class _CapabilityHeader(ctypes.Structure):
    _fields_: ClassVar = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityWord(ctypes.Structure):
    _fields_: ClassVar = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def effective_capabilities() -> int:
    """The capabilities of this process, a bit for each."""
    words = (_CapabilityWord * 2)()
    if ctypes.CDLL(None, use_errno=True).capget(ctypes.byref(_CapabilityHeader(_VERSION_3, 0)), words):
        return 0
    return int(words[0].effective) | int(words[1].effective) << 32


def drop_capabilities(*, keep: Collection[int] = (), ambient: bool = False) -> None:
    """Give up all capabilities but those in `keep`, for good; without effect for processes that have none.

    With `ambient`, executed programs keep them too, as root's do anyway.

    Raises:
        OSError: the kernel refuses.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(_MAX_CAPABILITIES):
        # The bounding set: what an executed program can get. Without CAP_SETPCAP it stays as the container made it.
        if number not in keep and libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    words = (_CapabilityWord * 2)()
    header = ctypes.byref(_CapabilityHeader(_VERSION_3, 0))
    _checked(libc.capget(header, words))
    for index, word in enumerate(words):
        word.permitted &= sum(1 << (number - 32 * index) for number in keep if number // 32 == index)
        word.effective = word.permitted
        word.inheritable = word.permitted if ambient else 0
    _checked(libc.capset(header, words))
    if ambient:
        for number in keep:
            libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)


def _checked(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), f"Capabilities can't be dropped: {os.strerror(ctypes.get_errno())}")

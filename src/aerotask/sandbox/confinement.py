"""Cuts a child off the network, off other processes and off files that aren't its own.

By a seccomp filter of the kernel, and a Landlock domain (`landlock`) where the kernel knows them. Both need no
right but to take rights away from oneself, so they also work in containers that forbid namespaces. They hold for
every thread and for whatever the tool executes, and can't be taken off again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import structlog

from aerotask.sandbox import landlock

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_MODE_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
# Instructions of the classic BPF (linux/bpf_common.h): load a word, compare, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# Offsets in `struct seccomp_data` (linux/seccomp.h).
_NUMBER, _ARCHITECTURE = 0, 4
# System calls of the x32 form, on x86_64, begin here; none of ours uses it.
_X32 = 0x40000000

# Equal everywhere: pidfd_send_signal, io_uring_setup (its rings open sockets too) and pidfd_getfd.
_EVERYWHERE = (424, 425, 438)
# linux/audit.h's name of the architecture, and the numbers of: socket, ptrace, process_vm_readv,
# process_vm_writev, and of those that lead out of the session, whose end is every child's: setpgid, setsid.
_CALLS = {
    "x86_64": (0xC000003E, (41, 101, 310, 311, 109, 112, *_EVERYWHERE)),
    "aarch64": (0xC00000B7, (198, 117, 270, 271, 154, 157, *_EVERYWHERE)),
}

_log = structlog.get_logger(__name__)


class _Instruction(ctypes.Structure):
    _fields_: ClassVar = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_: ClassVar = [("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction))]


@dataclass(frozen=True, slots=True)
class Confinement:
    """What this kernel can keep children from."""

    network: bool
    """Sockets, and a look into other processes."""
    files: bool
    """Files that they weren't lent."""
    signals: bool
    """Signals to processes that they haven't started."""


def possible() -> Confinement:
    """What `confine` comes to here."""
    return Confinement(
        network=_kernel_filters(), files=landlock.version() > 0, signals=landlock.knows_signals()
    )


def confine(*, reads: Sequence[Path] = (), writes: Sequence[Path] = ()) -> Confinement:
    """From now on, open no socket, look into no other process, reach no files but these; as far as is `possible`.

    What is possible and still fails is an error, so that nobody takes himself for confined who isn't.

    Raises:
        OSError: the kernel refuses.
    """
    wanted = possible()
    if wanted.network or wanted.files:
        _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if wanted.files:
        landlock.restrict(reads=reads, writes=writes)
    if wanted.network:
        instructions = _filter(*_CALLS[platform.machine()])
        program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
        _checked(_libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0))
    return wanted


def tell_whether_children_are_confined() -> None:
    """Say once, in the log, what children are kept from; a warning if something is missing."""
    here = possible()
    tell = _log.info if here == Confinement(network=True, files=True, signals=True) else _log.warning
    tell("children.confined", network=here.network, files=here.files, signals=here.signals)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), f"a child can't be confined: {os.strerror(ctypes.get_errno())}")


def _kernel_filters() -> bool:
    """Whether `confine` would work, without doing it: seccomp(2) has the kernel refuse a filter at address 0."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    refused = _libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0, 0, 0) != 0
    return refused and ctypes.get_errno() == errno.EFAULT


def _filter(architecture: int, calls: tuple[int, ...]) -> list[_Instruction]:
    """Refuse these calls, and every call of another architecture's form; allow all others."""
    checks = [_Instruction(_IF_AT_LEAST, len(calls) + 1, 0, _X32)]
    checks += [_Instruction(_IF_EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    return [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        # To the refusal, which stands behind the load, the checks and the permission.
        _Instruction(_IF_EQUAL, 0, len(checks) + 2, architecture),
        _Instruction(_LOAD, 0, 0, _NUMBER),
        *checks,
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_RETURN, 0, 0, _REFUSE),
    ]

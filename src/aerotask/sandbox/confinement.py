"""Confinement of a child: no network, no other processes, no files but its own.

It consists of a seccomp filter, and of a Landlock domain (`landlock`) where the kernel supports them. Both only give
up rights of the process itself, so they also work in containers that forbid namespaces. They hold for every thread and
for every program that the tool executes, and can't be removed again.
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
# System calls of the x32 ABI, on x86_64, begin here; none of ours uses it.
_X32 = 0x40000000

# The same on every architecture: pidfd_send_signal, io_uring_setup (its rings open sockets too) and pidfd_getfd.
_EVERYWHERE = (424, 425, 438)
# The architecture in linux/audit.h, and the numbers of: socket, ptrace, process_vm_readv, process_vm_writev, setpgid
# and setsid. The last two would lead out of the session that is killed with the child.
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
    """Kinds of confinement that this kernel supports."""

    network: bool
    """No new sockets, and no access to the memory of other processes."""
    files: bool
    """No files but those that a child was given."""
    signals: bool
    """No signals to processes that a child hasn't started."""


def supported_confinement() -> Confinement:
    """The confinement that `confine` achieves on this kernel."""
    return Confinement(
        network=_supports_seccomp(), files=landlock.version() > 0, signals=landlock.supports_signal_scope()
    )


def confine(*, reads: Sequence[Path] = (), writes: Sequence[Path] = ()) -> Confinement:
    """Give up, for good, sockets, other processes and all files but these, as far as `supported_confinement` says.

    A supported kind that fails is an error: otherwise a child would run as if it were confined.

    Raises:
        OSError: the kernel refuses.
    """
    supported = supported_confinement()
    if supported.network or supported.files:
        _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if supported.files:
        landlock.restrict(reads=reads, writes=writes)
    if supported.network:
        instructions = _filter(*_CALLS[platform.machine()])
        program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
        _checked(_libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0))
    return supported


def log_confinement() -> None:
    """Log once how children are confined; a warning if a kind is missing."""
    supported = supported_confinement()
    complete = supported == Confinement(network=True, files=True, signals=True)
    log = _log.info if complete else _log.warning
    log("children.confined", network=supported.network, files=supported.files, signals=supported.signals)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), f"The child can't be confined: {os.strerror(ctypes.get_errno())}")


def _supports_seccomp() -> bool:
    """Probe for seccomp filters without installing one: the kernel refuses a filter at address 0, see seccomp(2)."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    refused = _libc().prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0, 0, 0) != 0
    return refused and ctypes.get_errno() == errno.EFAULT


def _filter(architecture: int, calls: tuple[int, ...]) -> list[_Instruction]:
    """Filter that refuses these calls, and every call of another architecture's ABI."""
    checks = [_Instruction(_IF_AT_LEAST, len(calls) + 1, 0, _X32)]
    checks += [_Instruction(_IF_EQUAL, len(calls) - index, 0, call) for index, call in enumerate(calls)]
    return [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        # Jump to the refusal, behind the load, the checks and the permission.
        _Instruction(_IF_EQUAL, 0, len(checks) + 2, architecture),
        _Instruction(_LOAD, 0, 0, _NUMBER),
        *checks,
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_RETURN, 0, 0, _REFUSE),
    ]

"""Cuts a child off the network and off other processes' memory, by a seccomp filter of the kernel.

A filter needs no right but to take rights away from oneself, so it also works in containers that forbid
namespaces. It holds for every thread and for whatever the tool executes, and can't be taken off again.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from typing import ClassVar

import structlog

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_MODE_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
# Instructions of the classic BPF (linux/bpf_common.h): load a word, compare, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# Offsets in `struct seccomp_data` (linux/seccomp.h).
_NUMBER, _ARCHITECTURE = 0, 4
# System calls of the x32 form, on x86_64, begin here; none of ours uses it.
_X32 = 0x40000000

# linux/audit.h's name of the architecture, and the numbers of: socket, ptrace, process_vm_readv,
# process_vm_writev, and of those that are equal everywhere: io_uring_setup (its rings open sockets too) and
# pidfd_getfd.
_CALLS = {
    "x86_64": (0xC000003E, (41, 101, 310, 311, 425, 438)),
    "aarch64": (0xC00000B7, (198, 117, 270, 271, 425, 438)),
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


def confine() -> bool:
    """Open no socket from now on, nor look into another process; whether the kernel holds to it."""
    known = _CALLS.get(platform.machine())
    if sys.platform != "linux" or known is None:
        return False
    instructions = _filter(*known)
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def tell_whether_children_are_confined() -> None:
    """Say once, in the worker's log, if this kernel leaves children their network."""
    if not _kernel_filters():
        _log.warning(
            "children.unconfined",
            reason="this kernel has no seccomp filters for this architecture; tools can reach the network",
        )


def _kernel_filters() -> bool:
    """Whether `confine` would work, without doing it: seccomp(2) has the kernel refuse a filter at address 0."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0, 0, 0) != 0
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

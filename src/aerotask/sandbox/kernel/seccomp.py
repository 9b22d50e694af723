"""Seccomp filter of a confined child: which system calls are refused, and with which arguments.

A filter sees numbers and arguments, not what pointers lead to. It therefore refuses calls that reach other processes,
the kernel's rarer parts, memory that no limit counts, and the modes and times of files, which Landlock doesn't cover.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from aerotask.sandbox.kernel.system_calls import ARCHITECTURES, NUMBERS

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# Instructions of the classic BPF (linux/bpf_common.h): load a word, mask it, compare, return.
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
# Offsets in `struct seccomp_data` (linux/seccomp.h); of an argument the lower word, on little-endian machines.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
# System calls of the x32 ABI, on x86_64, begin here; none of ours uses it.
_X32 = 0x40000000
_ANY = 0xFFFFFFFF

_DONE = 0
"""Answered as if it had been done: many programs set modes and times when they copy, and give up on an error."""

_REFUSED: Mapping[int, tuple[str, ...]] = {
    errno.EACCES: (
        # Sockets through rings; other processes' memory and descriptors; leaving the session that is killed.
        *("io_uring_setup", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"),
        *("pidfd_send_signal", "setpgid", "setsid"),
    ),
    errno.EPERM: (
        *("rt_sigqueueinfo", "rt_tgsigqueueinfo", "kcmp", "process_madvise", "process_mrelease"),
        # Namespaces, mounts, and files by handle.
        *(
            "unshare",
            "setns",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "open_tree",
            "open_tree_attr",
            "move_mount",
        ),
        *(
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "name_to_handle_at",
            "open_by_handle_at",
        ),
        # Kernel interfaces with a history of holes, and those for administrators.
        *("keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "fanotify_init"),
        *("quotactl", "quotactl_fd", "acct", "swapon", "swapoff", "reboot", "sethostname", "setdomainname"),
        *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "settimeofday"),
        *(
            "clock_settime",
            "adjtimex",
            "clock_adjtime",
            "iopl",
            "ioperm",
            "syslog",
            "vhangup",
            "lookup_dcookie",
        ),
        # Memory and queues that outlive the process.
        *("shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop"),
        *("msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"),
    ),
    errno.EOPNOTSUPP: (
        *("setxattr", "lsetxattr", "fsetxattr", "setxattrat", "file_setattr"),
        *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
    ),
    # For these there is a fallback: clone3 hides its flags behind a pointer; the files of memory aren't limited.
    errno.ENOSYS: ("clone3", "memfd_create", "memfd_secret"),
    _DONE: (*("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),),
}


@dataclass(frozen=True, slots=True)
class _Check:
    """Condition on an argument under which a call is refused: its masked value is, or is not, one of `values`."""

    argument: int
    values: tuple[int, ...]
    mask: int = _ANY
    refuse_others: bool = False
    error: int = errno.EPERM


_CLONE_NEW_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_DEVICE_MODES = (0o020000, 0o060000)
_MODE_TYPE = 0o170000
_SHARED_ANONYMOUS = (0x21, 0x23)
_MAP_TYPE_AND_ANONYMOUS = 0x2F
# FS_IOC_SETFLAGS in both widths, FS_IOC_FSSETXATTR, TIOCSTI and TIOCLINUX.
_FILE_FLAGS_AND_TERMINALS = (0x40086602, 0x40046602, 0x401C5820, 0x5412, 0x541C)
_PRIO_PROCESS, _IOPRIO_PROCESS = 0, 1
_INTERNET = (2, 10)  # AF_INET and AF_INET6
_NEGATIVE = 0x80000000


def _checks(pid: int, *, internet: bool) -> Mapping[str, tuple[_Check, ...]]:
    """Checks of the calls that are refused by their arguments; `pid` is the process itself, like 0."""
    # Sockets of other families reach services of this machine, whose files Landlock doesn't cover.
    sockets = _Check(0, _INTERNET if internet else (), refuse_others=True, error=errno.EACCES)
    own = (0, pid)
    itself = _Check(0, own, refuse_others=True)
    second_itself = _Check(1, own, refuse_others=True)
    done = _Check(0, (0,), mask=0, error=_DONE)
    # The present time for a name (no times): whoever asks makes the file if that fails, as Python's `touch` does.
    times = (_Check(1, (0,), error=_DONE), _Check(2, (0,)), done)
    return {
        "socket": (sockets,),
        **dict.fromkeys(
            (
                *("prlimit64", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "sched_setattr"),
                *("move_pages", "migrate_pages"),
            ),
            (itself,),
        ),
        "setpriority": (_Check(0, (_PRIO_PROCESS,), refuse_others=True), second_itself),
        "ioprio_set": (_Check(0, (_IOPRIO_PROCESS,), refuse_others=True), second_itself),
        # All processes of the user, or another group.
        "kill": (_Check(0, (_NEGATIVE,), mask=_NEGATIVE),),
        "clone": tuple(_Check(0, (flag,), mask=flag) for flag in _CLONE_NEW_FLAGS),
        "mknod": (_Check(1, _DEVICE_MODES, mask=_MODE_TYPE),),
        "mknodat": (_Check(2, _DEVICE_MODES, mask=_MODE_TYPE),),
        # RLIMIT_DATA counts private memory only.
        "mmap": (_Check(3, _SHARED_ANONYMOUS, mask=_MAP_TYPE_AND_ANONYMOUS, error=errno.ENOMEM),),
        "utimensat": times,
        "futimesat": times,
        "utime": (_Check(1, (0,)), done),
        "utimes": (_Check(1, (0,)), done),
        "ioctl": (_Check(1, _FILE_FLAGS_AND_TERMINALS),),
    }


class _Instruction(ctypes.Structure):
    _fields_: ClassVar = [
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    ]


class _Program(ctypes.Structure):
    _fields_: ClassVar = [("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction))]


def is_supported() -> bool:
    """Probe for seccomp filters without installing one: the kernel refuses a filter at address 0, see seccomp(2)."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0, 0, 0) != 0
    return refused and ctypes.get_errno() == errno.EFAULT


def install_filter(*, internet: bool = False) -> None:
    """Install the filter for this process and all that it starts, for good. The caller has set PR_SET_NO_NEW_PRIVS.

    With `internet`, it leaves the sockets of the two internet protocols.

    Raises:
        OSError: the kernel refuses.
    """
    instructions = list(_filter(platform.machine(), os.getpid(), internet=internet))
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _filter(machine: str, pid: int, *, internet: bool) -> Iterator[_Instruction]:
    """The program: calls of another architecture's ABI are refused, then each call that has a rule is looked for."""
    numbers = NUMBERS[machine]
    yield _Instruction(_LOAD, 0, 0, _ARCHITECTURE)
    yield _Instruction(_IF_EQUAL, 1, 0, ARCHITECTURES[machine])
    yield _refusal(errno.EACCES)
    yield _Instruction(_LOAD, 0, 0, _NUMBER)
    yield _Instruction(_IF_AT_LEAST, 0, 1, _X32)
    yield _refusal(errno.EACCES)
    for name, checks in _checks(pid, internet=internet).items():
        if name in numbers:
            body = [instruction for check in checks for instruction in _compiled(check)]
            yield _Instruction(_IF_EQUAL, 0, len(body) + 1, numbers[name])
            yield from body
            yield _Instruction(_RETURN, 0, 0, _ALLOW)
    for error, names in _REFUSED.items():
        for name in names:
            if name in numbers:
                yield _Instruction(_IF_EQUAL, 0, 1, numbers[name])
                yield _refusal(error)
    yield _Instruction(_RETURN, 0, 0, _ALLOW)


def _compiled(check: _Check) -> Iterator[_Instruction]:
    """Load the argument; go on behind the refusal unless it applies."""
    yield _Instruction(_LOAD, 0, 0, _ARGUMENTS + 8 * check.argument)
    yield _Instruction(_AND, 0, 0, check.mask)
    count = len(check.values)
    for index, value in enumerate(check.values):
        to_refusal, behind_refusal = count - index - 1, count - index
        last = index == count - 1
        if check.refuse_others:
            yield _Instruction(_IF_EQUAL, behind_refusal, 0, value)
        else:
            yield _Instruction(_IF_EQUAL, to_refusal, 1 if last else 0, value)
    yield _refusal(check.error)


def _refusal(error: int) -> _Instruction:
    return _Instruction(_RETURN, 0, 0, _ERRNO | error)

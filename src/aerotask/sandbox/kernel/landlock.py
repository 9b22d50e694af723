"""Landlock domain: limits the files that a child reaches and the processes that it signals.

Like the seccomp filter it only gives up rights of the process itself, holds for threads and programs that are started
later, and can't be left. It also protects processes outside the domain from being traced, and from being read through
/proc. https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

# The same on every architecture that `confinement` has a seccomp filter for.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_PATH_BENEATH = 1
# Before this version (Linux 5.19), no file could be moved from one folder to another.
_MIN_VERSION = 2
_TRUNCATE_VERSION, _SIGNALS_VERSION = 3, 6

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 14))  # removing, making and moving entries
_MAKE_DEVICES = 1 << 6 | 1 << 11
_TRUNCATE = 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE
_READ = _READ_FILE | _READ_FOLDER
_SIGNALS = 1 << 1

# Read by programs and libraries; of /etc only files that hold no secrets.
_SYSTEM = (
    *(
        "/usr",
        "/lib",
        "/lib32",
        "/lib64",
        "/bin",
        "/sbin",
        "/etc/alternatives",
        "/etc/fonts",
        "/etc/ld.so.cache",
    ),
    *("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types", "/etc/timezone"),
    *("/proc", "/sys/devices/system", "/sys/fs/cgroup"),
)
# Read to find hosts and to check their certificates.
_INTERNET = (
    *(
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/gai.conf",
        "/etc/nsswitch.conf",
        "/etc/services",
    ),
    *(
        "/etc/protocols",
        "/etc/ssl/certs",
        "/etc/ssl/cert.pem",
        "/etc/ssl/openssl.cnf",
        "/etc/ca-certificates",
    ),
    *("/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/ca-trust", "/etc/crypto-policies"),
    "/run/systemd/resolve/stub-resolv.conf",
)
# Not /dev/zero: a shared mapping of it is memory that no limit counts.
_DEVICES = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom")


class _Ruleset(ctypes.Structure):
    _fields_: ClassVar = [
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_: ClassVar = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def version() -> int:
    """The Landlock version of this kernel; 0 if it has none, or one too old."""
    if sys.platform != "linux":
        return 0
    found = ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, _GET_VERSION)
    return int(found) if found >= _MIN_VERSION else 0


def supports_signal_scope() -> bool:
    """True if the kernel also keeps signals inside the domain (Linux 6.12)."""
    return version() >= _SIGNALS_VERSION


def restrict(*, reads: Iterable[Path], writes: Iterable[Path], internet: bool = False) -> None:
    """Give up, for good, reading all but the system, Python and `reads`, and changing all but `writes`.

    With `internet`, the files by which hosts are found and checked can be read too. The caller must have set
    PR_SET_NO_NEW_PRIVS. Paths that don't exist at the time of the call can't be reached later.

    Raises:
        OSError: the kernel refuses.
    """
    abi = version()
    everything = _OF_FILES | _READ | _CHANGE_FOLDER
    if abi >= _TRUNCATE_VERSION:
        everything |= _TRUNCATE
    size = ctypes.sizeof(_Ruleset) if abi >= _SIGNALS_VERSION else ctypes.sizeof(ctypes.c_uint64)
    ruleset = _call(_CREATE_RULESET, ctypes.byref(_Ruleset(everything, 0, _SIGNALS)), size, 0)
    try:
        for path in {*map(Path, _SYSTEM), *python_folders()}:
            _allow(ruleset, path, _READ | _EXECUTE)
        for path in (*reads, *(map(Path, _INTERNET) if internet else ())):
            _allow(ruleset, path, _READ)
        for path in map(Path, _DEVICES):
            _allow(ruleset, path, everything)
        for path in writes:
            _allow(ruleset, path, everything & ~_MAKE_DEVICES)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def python_folders() -> set[Path]:
    """The folders of the interpreter, its libraries and its modules."""
    searched = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    return {Path(name) for name in (*prefixes, *sys.path, *searched) if name.startswith("/")}


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = _Beneath(rights if path.is_dir() else rights & (_OF_FILES | _TRUNCATE), descriptor)
            _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
        finally:
            os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result

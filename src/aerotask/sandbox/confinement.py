"""Confinement of a child: no other processes, no files but its own, and no network unless a tool declares it.

It consists of a seccomp filter (`kernel.seccomp`) and a Landlock domain (`kernel.landlock`), where the kernel supports
them; root's capabilities go too. All only give up rights of the process itself, so they also work in containers that
forbid namespaces. They hold for every thread and for every program that the tool executes, and can't be removed again.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from aerotask.sandbox.kernel import landlock, seccomp
from aerotask.sandbox.kernel.account import become_child_account, can_reach, has_own_account
from aerotask.sandbox.kernel.capabilities import DAC_READ_SEARCH, drop_capabilities

_PR_SET_NO_NEW_PRIVS = 38

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Confinement:
    """Kinds of confinement that this kernel supports."""

    network: bool
    """No new sockets, no reach into other processes or rare parts of the kernel, no uncounted memory, no changed modes."""
    files: bool
    """No files but those that a child was given."""
    signals: bool
    """No signals to processes that a child hasn't started."""


def runs_as_own_account(*, with_folders: bool = True) -> bool:
    """True if children get an account of their own, `with_folders` to write to: see `kernel.account`.

    Only Landlock makes it possible: they may keep a right to read past modes.
    """
    return supported_confinement().files and has_own_account(with_folders=with_folders)


def supported_confinement() -> Confinement:
    """The confinement that `confine` achieves on this kernel."""
    return Confinement(
        network=seccomp.is_supported(), files=landlock.version() > 0, signals=landlock.supports_signal_scope()
    )


def confine(
    *,
    reads: Sequence[Path] = (),
    writes: Sequence[Path] = (),
    owned: Sequence[Path] | None = None,
    internet: bool = False,
) -> Confinement:
    """Give up, for good, sockets, other processes and all files but these, as far as `supported_confinement` says.

    Unless `owned` is None, the process goes on as an account of its own, if it can, which owns these folders.
    With `internet`, it keeps the sockets of the internet protocols.
    A supported kind that fails is an error: otherwise a child would run as if it were confined.

    Raises:
        OSError: the kernel refuses.
    """
    supported = supported_confinement()
    if not _became_child_account(reads, owned):
        # Root reads files in folders that only their owner can pass, such as a checkout in a home; Landlock limits it.
        drop_capabilities(keep=[DAC_READ_SEARCH], ambient=os.geteuid() != 0)
    if supported.network or supported.files:
        _set_no_new_privileges()
    if supported.files:
        landlock.restrict(reads=reads, writes=writes, internet=internet)
    if supported.network:
        seccomp.install_filter(internet=internet)
    return supported


def _became_child_account(reads: Sequence[Path], owned: Sequence[Path] | None) -> bool:
    if owned is None or not runs_as_own_account(with_folders=bool(owned)):
        return False
    return become_child_account(code=landlock.python_folders(), reads=reads, owned=owned)


def _set_no_new_privileges() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"The child can't be confined: {os.strerror(ctypes.get_errno())}")


def log_confinement(work: Path, *, with_folders: bool) -> None:
    """Log once how children are confined, which get work folders in `work`; a warning if a kind is missing."""
    supported = supported_confinement()
    complete = supported == Confinement(network=True, files=True, signals=True)
    log = _log.info if complete else _log.warning
    log(
        "children.confined",
        network=supported.network,
        files=supported.files,
        signals=supported.signals,
        own_account=runs_as_own_account(with_folders=with_folders)
        and can_reach(code=landlock.python_folders(), work=work),
    )

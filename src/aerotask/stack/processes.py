"""Child processes that are tied to the life of their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Account:
    """User and group for a process that doesn't run as the current user."""

    uid: int
    gid: int


def spawn(  # noqa: PLR0913  as Popen
    command: Sequence[str | Path],
    *,
    on_parent_death: signal.Signals,
    output: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
    account: Account | None = None,
    cwd: Path | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that gets the signal `on_parent_death` when this process dies, however it dies.

    It inherits the descriptors `inherited`, with their numbers, and no others.

    Call it from a thread that lives as long as the process should: Linux watches the thread, and other systems watch
    nothing. Ctrl-C in a terminal doesn't reach the process, which has its own session.

    Raises:
        OSError: the program or the account can't be used.
    """
    return subprocess.Popen(
        [os.fspath(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        env=None if env is None else dict(env),
        cwd=cwd,
        pass_fds=inherited,
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        preexec_fn=_tie_to_parent(on_parent_death),  # noqa: PLW1509  two system calls, no Python locks
    )


def stop(process: subprocess.Popen[bytes], *, stop_signal: signal.Signals, grace_s: float) -> int:
    """Send the process `stop_signal`, and kill its session if it still runs after `grace_s`; its exit status."""
    if process.poll() is None:
        process.send_signal(stop_signal)
    try:
        return process.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _tie_to_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    libc, parent = _LIBC, os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before this process was tied to it
            os._exit(1)

    return tie

"""Failpoints: named places where a test can kill, freeze or fail this process; inactive unless armed.

`AEROTASK_FAILPOINT=blob-renamed:kill,task-claimed:error@2` in a process's environment arms them: a name, an action, and
optionally the number of the only pass at which it happens. It is not a setting for installations.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache

from aerotask.domain.errors import InvalidInput

VARIABLE = "AEROTASK_FAILPOINT"

POINTS: Mapping[str, str] = {
    "submit-committed": "API: the task's row has committed, its wake-up has not been sent",
    "hint-sent": "API: the queue has the wake-up, the row is not marked as dispatched yet",
    "task-claimed": "worker: the claim has committed, the attempt has not started",
    "child-started": "worker: the child runs, its job has not been sent",
    "index-reading": "child: the worker knows which file is next, its metadata have not been read",
    "overviews-reading": "child: overviews of a raster are to be made, none of its pixels has been read",
    "member-extracted": "child: an extraction has written one more file into its work folder",
    "derivative-built": "child: a build has handed over one more derivative",
    "derivative-published": "worker: a derivative of a running task is published, the child goes on",
    "output-written": "worker: the child has ended, its output is in the work folder",
    "blob-synced": "API and worker: a blob is synced to disk, under a temporary name",
    "blob-renamed": "API and worker: a blob has its final name, no row refers to it yet",
    "upload-written": "API: a chunk of a resumable upload is in its file, the client has no response",
    "upload-synced": "API: a resumable upload is synced to disk, it has not become an entry",
    "sweep-removing": "worker: the rows of expired items are deleted, their blobs are not",
}
_FORM = re.compile(r"(?P<name>[a-z-]+):(?P<action>kill|stop|error)(?:@(?P<at>[1-9][0-9]*))?")


class FailpointError(OSError):
    """Error raised by an armed failpoint."""


class FailpointAction(StrEnum):
    """Actions of an armed failpoint."""

    KILL = "kill"
    """The process is killed, as by `kill -9`."""
    STOP = "stop"
    """The process is frozen until it gets SIGCONT."""
    ERROR = "error"
    """`FailpointError` is raised."""


@dataclass(frozen=True, slots=True)
class ArmedFailpoint:
    """Action of one failpoint: at every pass, or only at the pass number `at_pass`."""

    action: FailpointAction
    at_pass: int | None = None
    _passes: Iterator[int] = field(default_factory=lambda: itertools.count(1), compare=False)

    def passed(self) -> bool:
        """Count a pass; True if the action applies to it."""
        return next(self._passes) == self.at_pass or self.at_pass is None


def failpoint(name: str, *, fails_as: type[OSError] = FailpointError) -> None:
    """Run the action that is armed for this failpoint, if any.

    Raises:
        FailpointError, or `fails_as`: the action is `error`.
    """
    armed = armed_failpoints().get(name)
    if armed is None or not armed.passed():
        return
    if armed.action is FailpointAction.ERROR:
        raise fails_as(errno.EIO, f"failpoint {name}")
    os.kill(os.getpid(), signal.SIGKILL if armed.action is FailpointAction.KILL else signal.SIGSTOP)


@cache
def armed_failpoints() -> Mapping[str, ArmedFailpoint]:
    """Failpoints armed by this process's environment; read once.

    Raises:
        InvalidInput: unknown failpoint or action, for which a test would wait in vain.
    """
    return parse(os.environ.get(VARIABLE, ""))


def parse(armed_list: str) -> Mapping[str, ArmedFailpoint]:
    """The failpoints of a comma list like `task-claimed:stop,blob-synced:error@2`.

    Raises:
        InvalidInput: not such a list, or an unknown failpoint.
    """
    armed: dict[str, ArmedFailpoint] = {}
    for item in filter(None, armed_list.split(",")):
        found = _FORM.fullmatch(item)
        if found is None or found["name"] not in POINTS:
            raise InvalidInput(
                f"{VARIABLE}: '{item}' is not a failpoint. Write <name>:kill|stop|error, with @N for only the Nth "
                f"pass; the names are {', '.join(POINTS)}.",
                code="unknown-failpoint",
            )
        at = found["at"]
        armed[found["name"]] = ArmedFailpoint(FailpointAction(found["action"]), int(at) if at else None)
    return armed

"""Named places where a test can have this very process die, freeze or fail; inert unless it asks for that.

`AEROTASK_FAILPOINT=blob-renamed:kill,task-claimed:error@2` in a process's environment: a name, what
happens there, and optionally at which pass alone. It is no setting of an installation.
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
    "submit-committed": "API: the task's row has committed, its hint has not been sent",
    "hint-sent": "API: the queue has the hint, the row doesn't say so yet",
    "task-claimed": "worker: the claim has committed, nothing has been done about it",
    "child-started": "worker: the child runs, its job has not been handed over",
    "member-extracted": "child: an extraction has written one more file into its work folder",
    "output-written": "worker: the child has ended, its output lies in the work folder",
    "blob-synced": "API and worker: a content is on the disk, under a temporary name",
    "blob-renamed": "API and worker: a content has its name, no row names it yet",
    "upload-written": "API: a piece of a resumable upload is in its file, nobody has been told",
    "upload-synced": "API: what came of a resumable upload is on the disk, it has not become an entry",
    "sweep-removing": "worker: the rows of expired things are gone, their blobs are not",
}
_FORM = re.compile(r"(?P<name>[a-z-]+):(?P<action>kill|stop|error)(?:@(?P<at>[1-9][0-9]*))?")


class FailpointError(OSError):
    """What an armed failpoint raises: the failure of whatever was being done there."""


class FailpointAction(StrEnum):
    """What happens at an armed failpoint."""

    KILL = "kill"
    """The process is gone, as after `kill -9`."""
    STOP = "stop"
    """The process is frozen until somebody sends SIGCONT."""
    ERROR = "error"
    """`FailpointError` is raised."""


@dataclass(frozen=True, slots=True)
class ArmedFailpoint:
    """What shall happen at one failpoint: at every pass, or at the one of number `at_pass`."""

    action: FailpointAction
    at_pass: int | None = None
    _passes: Iterator[int] = field(default_factory=lambda: itertools.count(1), compare=False)

    def passed(self) -> bool:
        """Count a pass; whether it is one that matters."""
        return next(self._passes) == self.at_pass or self.at_pass is None


def failpoint(name: str, *, fails_as: type[OSError] = FailpointError) -> None:
    """The place called `name`: does what this process's environment asks for there, or nothing.

    Raises:
        FailpointError, or `fails_as`: that was asked for.
    """
    armed = armed_failpoints().get(name)
    if armed is None or not armed.passed():
        return
    if armed.action is FailpointAction.ERROR:
        raise fails_as(errno.EIO, f"failpoint {name}")
    os.kill(os.getpid(), signal.SIGKILL if armed.action is FailpointAction.KILL else signal.SIGSTOP)


@cache
def armed_failpoints() -> Mapping[str, ArmedFailpoint]:
    """What this process's environment asks for; read once.

    Raises:
        InvalidInput: there is no such failpoint or action, so a test would wait for nothing.
    """
    return parse(os.environ.get(VARIABLE, ""))


def parse(wanted: str) -> Mapping[str, ArmedFailpoint]:
    """The failpoints of a comma list like `task-claimed:stop,blob-synced:error@2`.

    Raises:
        InvalidInput: it is no such list, or names a point that doesn't exist.
    """
    armed: dict[str, ArmedFailpoint] = {}
    for item in filter(None, wanted.split(",")):
        found = _FORM.fullmatch(item)
        if found is None or found["name"] not in POINTS:
            raise InvalidInput(
                f"{VARIABLE}: '{item}' is no failpoint. Write <name>:kill|stop|error, with @N for the Nth pass "
                f"alone; the names are {', '.join(POINTS)}.",
                code="unknown-failpoint",
            )
        at = found["at"]
        armed[found["name"]] = ArmedFailpoint(FailpointAction(found["action"]), int(at) if at else None)
    return armed

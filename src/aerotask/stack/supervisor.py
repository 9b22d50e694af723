"""Supervisor that starts stopped processes again, with growing pauses and a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from aerotask.domain.errors import Unavailable
from aerotask.services.system.supervision import Supervision, write_supervision

FIRST_PAUSE_S = 0.25
"""Pause before the first restart; it doubles with each further one."""
MAX_RESTARTS = 5
"""Restarts of one part within `WINDOW_S`; when it stops once more, it is given up."""
WINDOW_S = 600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SupervisedPart:
    """A process of a stack; `exit_status` returns None while it runs, `start` raises `Unavailable` if it fails."""

    name: str
    exit_status: Callable[[], int | None]
    start: Callable[[], object]


@dataclass(slots=True)
class _Restarts:
    """Times of a part's restarts, and the time of the next one if it is down."""

    times: list[float] = field(default_factory=list)
    due: float | None = None


class Supervisor:
    """Supervisor of parts: `check` has to be called every now and then, from the thread that started them."""

    def __init__(
        self,
        parts: Sequence[SupervisedPart],
        status_file: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = [(part, _Restarts()) for part in parts]
        self._status_file = status_file
        self._clock = clock
        self._restarts = 0

    def check(self) -> None:
        """Plan restarts of the parts that have stopped, and start those that are due.

        Raises:
            Unavailable: a part stops too often, or can't be started.
        """
        for part, restarts in self._parts:
            if restarts.due is None:
                self._check_running(part, restarts)
            elif self._clock() >= restarts.due:
                self._restart(part, restarts)

    def _check_running(self, part: SupervisedPart, restarts: _Restarts) -> None:
        status = part.exit_status()
        if status is not None:
            self._plan_restart(part, restarts, reason=f"exit status {status}")

    def _restart(self, part: SupervisedPart, restarts: _Restarts) -> None:
        restarts.due = None
        self._restarts += 1
        try:
            part.start()
        except Unavailable as error:
            self._plan_restart(part, restarts, reason=error.message)
            return
        _log.info("part.restarted", part=part.name)
        self._report()

    def _plan_restart(self, part: SupervisedPart, restarts: _Restarts, *, reason: str) -> None:
        now = self._clock()
        restarts.times = [moment for moment in restarts.times if now - moment < WINDOW_S]
        if len(restarts.times) >= MAX_RESTARTS:
            _log.error("part.given_up", part=part.name, reason=reason)
            raise Unavailable(
                f"{part.name[0].upper()}{part.name[1:]} has stopped again after {MAX_RESTARTS} restarts within {WINDOW_S / 60:.0f} minutes "
                f"({reason}); stopping everything. Its log above says why."
            )
        pause_s = FIRST_PAUSE_S * 2 ** len(restarts.times)
        restarts.times.append(now)
        restarts.due = now + pause_s
        _log.warning(
            "part.stopped",
            part=part.name,
            reason=reason,
            restart_in_s=pause_s,
            restart=f"{len(restarts.times)} of {MAX_RESTARTS}",
        )
        self._report()

    def _report(self) -> None:
        waiting = tuple(part.name for part, restarts in self._parts if restarts.due is not None)
        write_supervision(self._status_file, Supervision(self._restarts, waiting))

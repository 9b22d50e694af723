"""Progress reporter: writes a run's progress and log to Postgres in batches, each line exactly once."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

import structlog

from aerotask.db.engine import Database
from aerotask.db.outages import is_outage
from aerotask.domain.settings import LogLimits
from aerotask.domain.text_cleaning import clean_line
from aerotask.sandbox.protocol import Message
from aerotask.store.queue import leases
from aerotask.store.queue.leases import Lease, LeaseLost, Report
from aerotask.store.queue.logs import size_of

GATHER_S = 0.3
"""Delay of the first report: a run that ends within it needs no transaction before the one of its end."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Reporter:
    """Reports of one attempt, at most one per `interval_s`. Lines are buffered while Postgres is away."""

    db: Database
    lease: Lease
    next_line: int
    log_limits: LogLimits
    interval_s: float
    _lines: deque[str] = field(default_factory=deque)
    _bytes: int = 0
    _percent: float = 0.0
    _phase: str | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_event(self, event: Message) -> None:
        """Record an event of the child."""
        if event.kind == "log":
            self.log(str(event.body["line"]))
        elif event.kind == "progress":
            self._percent = min(max(float(event.body["fraction"]), 0.0), 1.0) * 100
            phase = event.body["phase"]
            self._phase = None if phase is None else clean_line(str(phase))
            self._changed.set()

    def log(self, line: str) -> None:
        """Append a line to the task's log."""
        cleaned = clean_line(line)
        self._lines.append(cleaned)
        self._bytes += size_of(cleaned)
        while self.log_limits.exceeded_by(len(self._lines), self._bytes):
            # Otherwise an outage of Postgres fills the memory; the log would drop the line anyway.
            self._drop_first()
        self._changed.set()

    def set_phase(self, name: str) -> None:
        """Set the phase to what the worker itself does for the run."""
        self._phase = name
        self._changed.set()

    def pending(self) -> Report:
        """The progress and the lines that have not been written yet."""
        return Report(self.next_line, tuple(self._lines), self._percent, self._phase)

    async def run(self, lost: asyncio.Event) -> None:
        """Write reports until cancelled; sets `lost` and returns when the lease is lost."""
        await self._changed.wait()
        await asyncio.sleep(GATHER_S)
        while True:
            await self._changed.wait()
            self._changed.clear()
            report = self.pending()
            try:
                async with self.db.begin_short() as connection:
                    await leases.report(connection, self.lease, report, log_limits=self.log_limits)
            except LeaseLost:
                lost.set()
                return
            except Exception as error:
                if not is_outage(error):
                    raise
                _log.warning("report.delayed", task_id=str(self.lease.task_id), error=str(error))
                self._changed.set()
            else:
                self._drop_written(report)
            await asyncio.sleep(self.interval_s)

    def _drop_written(self, report: Report) -> None:
        # `log` has already counted lines that it dropped while the report was being written.
        written = report.first + len(report.lines) - self.next_line
        for _ in range(max(written, 0)):
            self._drop_first()

    def _drop_first(self) -> None:
        self._bytes -= size_of(self._lines.popleft())
        self.next_line += 1

"""Carries what a run says to Postgres: in batches, at most one write a heartbeat, each line exactly once."""

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
"""The first news wait for so long: a run that is over by then is told of with its end, in one transaction."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Reporter:
    """The news of one run. Lines wait here while Postgres is away, up to as much as a log keeps."""

    db: Database
    lease: Lease
    next_line: int
    log_limits: LogLimits
    interval_s: float
    _lines: deque[str] = field(default_factory=deque)
    _bytes: int = 0
    _percent: float = 0.0
    _phase: str | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: Message) -> None:
        """Note an event of the child."""
        if event.kind == "log":
            self.say(str(event.body["line"]))
        elif event.kind == "progress":
            self._percent = min(max(float(event.body["fraction"]), 0.0), 1.0) * 100
            phase = event.body["phase"]
            self._phase = None if phase is None else clean_line(str(phase))
            self._news.set()

    def say(self, line: str) -> None:
        """Add a line."""
        cleaned = clean_line(line)
        self._lines.append(cleaned)
        self._bytes += size_of(cleaned)
        while self.log_limits.exceeded_by(len(self._lines), self._bytes):
            # Nobody will ever read it: the log keeps no more than that.
            self._drop_first()
        self._news.set()

    def phase(self, name: str) -> None:
        """Note what the worker itself is doing for the run."""
        self._phase = name
        self._news.set()

    def unsent(self) -> Report:
        """Everything that has not been written yet."""
        return Report(self.next_line, tuple(self._lines), self._percent, self._phase)

    async def run(self, lost: asyncio.Event) -> None:
        """Write news until cancelled; sets `lost` and returns when the lease is no longer ours."""
        await self._news.wait()
        await asyncio.sleep(GATHER_S)
        while True:
            await self._news.wait()
            self._news.clear()
            report = self.unsent()
            try:
                async with self.db.begin() as connection:
                    await leases.report(connection, self.lease, report, log_limits=self.log_limits)
            except LeaseLost:
                lost.set()
                return
            except Exception as error:
                if not is_outage(error):
                    raise
                _log.warning("report.delayed", task_id=str(self.lease.task_id), error=str(error))
                self._news.set()
            else:
                self._sent(report)
            await asyncio.sleep(self.interval_s)

    def _sent(self, report: Report) -> None:
        # Lines that fell out of the front meanwhile have been counted by `say` already.
        behind = report.first + len(report.lines) - self.next_line
        for _ in range(max(behind, 0)):
            self._drop_first()

    def _drop_first(self) -> None:
        self._bytes -= size_of(self._lines.popleft())
        self.next_line += 1

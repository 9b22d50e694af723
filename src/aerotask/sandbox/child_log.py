"""Log of a child process: what it logs as a warning or worse reaches the log of its worker, which knows the task."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aerotask.sandbox.child_loop import EventWriter
from aerotask.sandbox.protocol import Message

LOGGED = "logged"
"""The kind of message with a record of the log: its level, its logger and its text."""
MAX_RECORDS = 500
"""Records of one child; a damaged file can make a library warn for each of its blocks."""
MAX_RECORD_CHARS = 8000


class _Forwarder(logging.Handler):
    """Sends the records to the parent."""

    def __init__(self, events: EventWriter) -> None:
        super().__init__(logging.WARNING)
        self._events = events
        self._left = MAX_RECORDS

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record, unless there have been too many."""
        if self._left <= 0:
            return
        self._left -= 1
        text = self.format(record) if self._left else "Further records are left out."
        body = {"level": record.levelno, "logger": record.name, "text": text[-MAX_RECORD_CHARS:]}
        self._events.send(Message(LOGGED, body))


def forward_log(events: EventWriter) -> None:
    """Send the parent what this process logs from now on."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Forwarder) for handler in root.handlers):
        root.addHandler(_Forwarder(events))


def log_again(record: Mapping[str, Any]) -> None:
    """Log a record of a child in this process, which may itself be one."""
    logging.getLogger(str(record["logger"])).log(int(record["level"]), "%s", record["text"])

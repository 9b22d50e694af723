"""Server-sent events as a client reads them (HTML standard, section 9.2.6)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

KEEPALIVE = "keep-alive"
"""The name of a comment's event; real clients ignore comments."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` is parsed."""

    name: str
    data: Any = None
    id: str | None = None


@dataclass(slots=True)
class _Reader:
    """Parses lines into events."""

    fields: dict[str, str] = field(default_factory=dict)

    def read(self, line: str) -> Iterator[Event]:
        if not line:
            if "data" in self.fields:
                yield Event(
                    self.fields.get("event", "message"),
                    json.loads(self.fields["data"]),
                    self.fields.get("id"),
                )
            self.fields = {}
        elif line.startswith(":"):
            yield Event(KEEPALIVE)
        else:
            name, _, value = line.partition(":")
            self.fields[name] = value.removeprefix(" ")


def events_of(response: httpx.Response) -> Iterator[Event]:
    """The events of an open stream until it closes."""
    reader = _Reader()
    for line in response.iter_lines():
        yield from reader.read(line)


async def aevents_of(response: httpx.Response) -> AsyncIterator[Event]:
    """The same, asynchronously."""
    reader = _Reader()
    async for line in response.aiter_lines():
        for event in reader.read(line):
            yield event


def lines_of(events: list[Event]) -> list[str]:
    """The lines of the log events."""
    return [event.data["line"] for event in events if event.name == "log"]

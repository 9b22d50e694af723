"""Snapshot of a dataset's entries at the start of a run, in a file (a dataset may have 100,000)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from aerotask.sdk.dataset import EntryView

_FLUSH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Snapshot of a dataset: its slug, and the entries that `Tool.snapshot_of` names.

    An input of the run has the content that the run reads, even if the entry was replaced since the submit; its index
    metadata is missing then. All other entries are as they are when the run starts.
    """

    slug: str
    file: Path | None = None

    def entries(self) -> Iterator[EntryView]:
        """The entries, streamed from the file."""
        if self.file is None:
            return
        with self.file.open("rb") as lines:
            for line in lines:
                yield EntryView(**orjson.loads(line))


async def write_snapshot(file: Path, entries: AsyncIterable[EntryView]) -> None:
    """Write entries to a snapshot file in batches, replacing an existing file."""
    buffer = bytearray()
    target = await asyncio.to_thread(file.open, "wb")
    try:
        async for entry in entries:
            buffer += entry_line(entry)
            if len(buffer) >= _FLUSH_BYTES:
                await asyncio.to_thread(target.write, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(target.write, bytes(buffer))
    finally:
        await asyncio.to_thread(target.close)


def entry_line(entry: EntryView) -> bytes:
    """A line of a snapshot file."""
    fields: dict[str, Any] = {name: getattr(entry, name) for name in EntryView.__slots__}
    return orjson.dumps(fields) + b"\n"

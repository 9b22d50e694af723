"""The entries of a dataset as they were when a run started, in a file: there may be a great many."""

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
    """What a run may know of its dataset: its slug, and the entries that `Tool.snapshot_of` names.

    An entry that is an input of the run has the content that the run reads, also if it has been replaced
    in the dataset since the submit; nothing else is known of it then. All others are as they are now.
    """

    slug: str
    file: Path | None = None

    def entries(self) -> Iterator[EntryView]:
        """The entries, read one by one."""
        if self.file is None:
            return
        with self.file.open("rb") as lines:
            for line in lines:
                yield EntryView(**orjson.loads(line))


async def write_snapshot(file: Path, entries: AsyncIterable[EntryView]) -> None:
    """Write entries as a snapshot's file, a little at a time; a file that is there is written anew."""
    gathered = bytearray()
    target = await asyncio.to_thread(file.open, "wb")
    try:
        async for entry in entries:
            gathered += entry_line(entry)
            if len(gathered) >= _FLUSH_BYTES:
                await asyncio.to_thread(target.write, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(target.write, bytes(gathered))
    finally:
        await asyncio.to_thread(target.close)


def entry_line(entry: EntryView) -> bytes:
    """One entry as a line of a snapshot's file."""
    fields: dict[str, Any] = {name: getattr(entry, name) for name in EntryView.__slots__}
    return orjson.dumps(fields) + b"\n"

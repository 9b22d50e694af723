"""Memory of decompressors: dictionaries that an archive asks for are bounded, each and all of them together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aerotask.archives import errors

DICTIONARY_BYTES = 256 * 1024 * 1024
"""The largest dictionary: what 7-Zip's strongest levels need for LZMA and PPMd."""


@dataclass(slots=True)
class DecoderMemory:
    """Memory that threads share for dictionaries; a thread waits until there is enough for it."""

    total_bytes: int = DICTIONARY_BYTES
    _used_bytes: int = 0
    _freed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Memory for one decompressor, for the duration of the block.

        Raises:
            InvalidInput: it is more than all threads may have together.
        """
        if count > self.total_bytes:
            raise errors.over_limit(
                f"decompressing it needs {count} bytes of memory, and the limit is {self.total_bytes}"
            )
        with self._freed:
            self._freed.wait_for(lambda: self._used_bytes + count <= self.total_bytes)
            self._used_bytes += count
        try:
            yield
        finally:
            with self._freed:
                self._used_bytes -= count
                self._freed.notify_all()

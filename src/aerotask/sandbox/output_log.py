"""What children and their libraries print: for our own log, a cleaned line at a time.

It comes from processes that opened somebody's file, and would otherwise reach the operator's terminal as it is.
"""

from __future__ import annotations

import asyncio
from typing import IO

import structlog

from aerotask.domain.text_cleaning import clean_line

PIECE_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024

_log = structlog.get_logger(__name__)


async def overhear(pipe: IO[bytes], *, program: str) -> None:
    """Log each line until the last process that holds the pipe's other end is gone; closes the pipe."""
    reader = asyncio.StreamReader(limit=PIECE_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    unread = b""
    try:
        while piece := await reader.read(PIECE_BYTES):
            *lines, unread = (unread + piece).split(b"\n")
            if len(unread) > MAX_LINE_BYTES:
                lines, unread = [*lines, unread], b""
            for line in lines:
                _tell(line, program)
        _tell(unread, program)
    finally:
        transport.close()


def _tell(line: bytes, program: str) -> None:
    if line.strip():
        _log.warning("child.printed", program=program, line=clean_line(line.decode("utf-8", "replace")))

"""Logger of what children and their libraries log and print, a cleaned line at a time.

Children open files of users: uncleaned, control sequences from these would reach the operator's terminal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import IO, Any

import structlog

from aerotask.domain.text_cleaning import clean_line

CHUNK_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024

_log = structlog.get_logger(__name__)


async def log_output(pipe: IO[bytes], *, program: str) -> None:
    """Log each line until the last process that holds the pipe's other end has ended; closes the pipe."""
    reader = asyncio.StreamReader(limit=CHUNK_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    unread = b""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            *lines, unread = (unread + chunk).split(b"\n")
            if len(unread) > MAX_LINE_BYTES:
                lines, unread = [*lines, unread], b""
            for line in lines:
                _log_line(line, program)
        _log_line(unread, program)
    finally:
        transport.close()


def _log_line(line: bytes, program: str) -> None:
    if line.strip():
        _log.warning("child.printed", program=program, line=clean_line(line.decode("utf-8", "replace")))


def log_record(record: Mapping[str, Any], **ids: object) -> None:
    """Log a record of a child (the body of a `LOGGED` message) with the ids of what it works on.

    Raises:
        KeyError, TypeError, ValueError: the record is malformed.
    """
    first, _, trace = str(record["text"]).partition("\n")
    more = {"exception": trace} if trace else {}
    log = _log.error if int(record["level"]) >= logging.ERROR else _log.warning
    log("child.logged", logger_name=str(record["logger"]), text=first, **ids, **more)

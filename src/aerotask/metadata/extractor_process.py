"""Program of an extractor process (`python -m aerotask.metadata.extractor_process`).

A job's body is `{"path"}`; the result's is the SHA-256 of the content and the file's metadata.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from aerotask.metadata.extract import extract_metadata
from aerotask.metadata.model import too_large_to_read
from aerotask.metadata.timeouts import cpu_deadline, cpu_limit_s
from aerotask.sandbox.child_log import forward_log
from aerotask.sandbox.child_loop import EventWriter, serve_stdio
from aerotask.sandbox.protocol import Message


def _extract(job: Message, events: EventWriter) -> Message:
    forward_log(events)
    path = Path(job.body["path"])
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    with cpu_deadline(cpu_limit_s(path.stat().st_size)):
        try:
            found = extract_metadata(path)
        except MemoryError:
            found = too_large_to_read()
    return Message("done", {"sha256": sha256, **found.to_json()})


def _failure(error: BaseException) -> Message:
    raise error  # ends the process, and so costs only this file


if __name__ == "__main__":
    serve_stdio(_extract, _failure)

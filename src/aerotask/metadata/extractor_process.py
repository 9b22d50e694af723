"""A process that describes files one after the other: `python -m aerotask.metadata.extractor_process`.

It reads one JSON object a line from its standard input, `{"path": …}`, and answers each with one line on its standard
output: the content's SHA-256 and what the index says of the file. A file that crashes it takes nothing else with it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from aerotask.domain.text_cleaning import clean_json
from aerotask.metadata.extract import extract_metadata
from aerotask.metadata.model import extraction_failed


def answer(path: Path) -> dict[str, Any]:
    """What is to be told of one file."""
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    try:
        found = extract_metadata(path)
    except MemoryError:
        found = extraction_failed("it needs more memory than is given to reading one file")
    return {
        "sha256": sha256,
        "type": found.type,
        "properties": clean_json(found.properties),
        "point": found.point,
        "polygon": found.polygon,
    }


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    for line in requests:
        told = answer(Path(orjson.loads(line)["path"]))
        answers.write(orjson.dumps(told, default=str) + b"\n")
        answers.flush()


def main() -> None:
    """Serve the standard streams; what a library prints goes to the standard error output."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()

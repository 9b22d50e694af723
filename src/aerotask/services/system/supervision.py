"""Restarts of a stack's processes, as their supervisor reports them to the API through a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Supervision:
    """Restarts since the start of the stack, and the processes that are down and will be started again."""

    restarts: int = 0
    restarting: tuple[str, ...] = ()


def write_supervision(file: Path, supervision: Supervision) -> None:
    """Replaces the content of the file, so that readers never see half of it."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(json.dumps(asdict(supervision)), encoding="utf-8")
    fresh.rename(file)


def read_supervision(file: Path | None) -> Supervision | None:
    """The content of the file; None if no supervisor writes one."""
    if file is None or not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    return Supervision(content["restarts"], tuple(content["restarting"]))

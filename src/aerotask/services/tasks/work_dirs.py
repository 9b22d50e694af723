"""Where an attempt at a task works: the worker that runs it and the sweep that clears up must agree."""

from __future__ import annotations

from pathlib import Path

from aerotask.domain.ids import TaskId


def work_folder(root: Path, task_id: TaskId, attempt: int) -> Path:
    """The attempt's own folder below the storage's folder for work."""
    return root / f"{task_id}-{attempt}"

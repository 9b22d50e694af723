"""Work folders of attempts, as used by the worker and by maintenance."""

from __future__ import annotations

from pathlib import Path

from aerotask.domain.ids import TaskId


def work_folder(root: Path, task_id: TaskId, attempt: int) -> Path:
    """The attempt's own folder below the storage's work folder."""
    return root / f"{task_id}-{attempt}"

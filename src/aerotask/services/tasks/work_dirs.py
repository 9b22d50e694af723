"""Work folders of attempts, as used by the worker and by maintenance."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from aerotask.domain.ids import TaskId


def work_folder(root: Path, task_id: TaskId, attempt: int) -> Path:
    """The attempt's own folder below the storage's work folder."""
    return root / f"{task_id}-{attempt}"


def attempt_of(name: str) -> tuple[TaskId, int] | None:
    """The task and the number of the attempt that has the folder of that name; None for other work folders."""
    task_id, _, attempt = name.rpartition("-")
    try:
        return TaskId(UUID(task_id)), int(attempt)
    except ValueError:
        return None

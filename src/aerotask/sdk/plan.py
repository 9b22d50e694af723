"""What a tool expects of a run before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """The size and the reach of one run.

    `memory_bytes` is held by a limit on the child process; `reads` are files that the run will open,
    `writes` are the paths (files or whole folders) that it will change in the dataset.
    """

    estimated_output_bytes: int
    memory_bytes: int = 512 * MIB
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


def refuse_unplanned(at: str, writes: Sequence[str]) -> None:
    """Refuse a change at a path that lies neither at nor below one of the planned ones.

    Raises:
        TaskFailed: it is so (`bad-output`).
    """
    if not any(paths.within(at, planned) for planned in writes):
        raise TaskFailed(
            f"The tool wants to change {paths.shown(at)}, which its plan doesn't name.", code="bad-output"
        )

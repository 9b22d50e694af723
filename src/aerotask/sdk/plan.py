"""Plan of a run: its reads, writes and resources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of one run.

    `memory_bytes` is enforced by a limit on the child process; `reads` are the files that the run opens, and
    `writes` the paths (files or whole folders) that it changes in the dataset.
    """

    estimated_output_bytes: int
    memory_bytes: int = 512 * MIB
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


def raise_if_unplanned(path: str, writes: Sequence[str]) -> None:
    """Check that a changed path is one of the plan's `writes`, or below one.

    Raises:
        TaskFailed: it is not (`bad-output`).
    """
    if not any(paths.within(path, planned) for planned in writes):
        raise TaskFailed(
            f"The tool changes {paths.shown(path)}, which its plan doesn't name.", code="bad-output"
        )

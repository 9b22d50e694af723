"""What a tool expects of a run before it begins."""

from __future__ import annotations

from dataclasses import dataclass

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

"""The one implementation of `RunContext`: it records what a tool declares and passes events on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed
from aerotask.domain.texts import clean_json, clean_line
from aerotask.sdk.changes import Artifact, ChangeSet, PutDerivative, PutEntry, RemoveEntry

_KIND = re.compile(r"[a-z0-9]{1,32}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `fraction` from 0 to 1."""

    fraction: float
    phase: str | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a run's log, free of control characters."""

    text: str


class Run:
    """A run in progress; `emit` receives each `Progress` and `LogLine` as it comes."""

    def __init__(
        self,
        *,
        inputs: Mapping[str, Path],
        workdir: Path,
        threads: int,
        emit: Callable[[Progress | LogLine], None],
        derived: AbstractSet[tuple[str, str, str]] = frozenset(),
    ) -> None:
        self.workdir = workdir
        self.threads = threads
        self._inputs = inputs
        self._emit = emit
        self._derived = derived
        self._furthest = 0.0
        self._artifacts: dict[str, Artifact] = {}
        self._edits: list[PutEntry | RemoveEntry] = []
        self._derivatives: dict[tuple[str, str], PutDerivative] = {}
        self._result: Mapping[str, Any] | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The paths of all entries that the plan reads, sorted."""
        return tuple(sorted(self._inputs))

    def input(self, path: str) -> Path:
        """The file that holds the entry's content."""
        try:
            return self._inputs[path]
        except KeyError:
            raise TaskFailed(
                f"The tool asked for {paths.shown(path)}, which its plan doesn't read.",
                code="undeclared-input",
            ) from None

    def progress(self, fraction: float, phase: str | None = None) -> None:
        """Pass on how far the run is; a smaller fraction than before counts as the one before."""
        self._furthest = min(max(self._furthest, fraction), 1.0)
        self._emit(Progress(self._furthest, None if phase is None else clean_line(phase)))

    def log(self, line: str) -> None:
        """Pass on each line of the text."""
        for part in line.splitlines() or [""]:
            self._emit(LogLine(clean_line(part)))

    def publish(self, path: Path, *, name: str, media_type: str) -> None:
        """Declare the artifact, or with another name a further one; the same name again replaces it."""
        safe = paths.file_name(name)
        self._artifacts[safe] = Artifact(self._own_file(path), safe, media_type)

    def put_entry(self, path: Path, *, at: str) -> None:
        """Declare that the file becomes entry `at`."""
        self._edits.append(PutEntry(self._own_file(path), paths.entry_path(at)))

    def remove_entry(self, path: str) -> None:
        """Declare that the entry goes."""
        self._edits.append(RemoveEntry(paths.entry_path(path)))

    def has_derivative(self, of: str, *, kind: str, builder: str) -> bool:
        """Whether the entry's content has that derivative already."""
        return (of, kind, builder) in self._derived

    def put_derivative(
        self, path: Path, *, of: str, kind: str, builder: str, properties: Mapping[str, Any]
    ) -> None:
        """Declare the derivative; the same kind of the same entry again replaces it."""
        self.input(of)
        if not _KIND.fullmatch(kind):
            raise TaskFailed("A kind of derivative has 1 to 32 characters of a-z and 0-9.", code="bad-output")
        made = PutDerivative(self._own_file(path), of, kind, builder, clean_json(properties))
        self._derivatives[of, kind] = made

    def result(self, outcome: Mapping[str, Any]) -> None:
        """Declare the structured outcome; a second declaration replaces the first."""
        self._result = clean_json(outcome)

    def changes(self) -> ChangeSet:
        """Everything declared so far."""
        return ChangeSet(
            tuple(self._artifacts.values()),
            tuple(self._edits),
            self._result,
            tuple(self._derivatives.values()),
        )

    def _own_file(self, path: Path) -> Path:
        resolved = path.resolve()
        if not resolved.is_relative_to(self.workdir.resolve()) or not resolved.is_file():
            raise TaskFailed(
                "The tool declared an output that is not a file in its work folder.",
                code="bad-output",
            )
        return resolved

"""Implementation of `RunContext`: records the declared changes and emits events."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aerotask.domain import paths
from aerotask.domain.errors import TaskFailed
from aerotask.domain.text_cleaning import clean_json, clean_line
from aerotask.sdk.changes import (
    ChangeSet,
    DescribeEntry,
    Edit,
    Existing,
    PublishedArtifact,
    PutDerivative,
    PutEntry,
    PutFolder,
    RemoveEntry,
)
from aerotask.sdk.limits import Limits
from aerotask.sdk.snapshot import Snapshot

_KIND = re.compile(r"[a-z0-9]{1,32}")


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of a run: `fraction` from 0 to 1."""

    fraction: float
    phase: str | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """Log line of a run, free of control characters."""

    text: str


class Run:
    """Run in progress; `emit` receives each `RunProgress` and `LogLine` immediately."""

    def __init__(  # noqa: PLR0913  the parts of a run's context
        self,
        *,
        inputs: Mapping[str, Path],
        workdir: Path,
        threads: int,
        emit: Callable[[RunProgress | LogLine], None],
        limits: Limits | None = None,
        snapshot: Snapshot | None = None,
        derived: AbstractSet[tuple[str, str, str]] = frozenset(),
        derived_since_submit: AbstractSet[tuple[str, str, str]] = frozenset(),
        hashes: Mapping[str, str] | None = None,
        on_damage: Callable[[str], None] = lambda _path: None,
        on_derivative: Callable[[PutDerivative[Path]], None] = lambda _made: None,
    ) -> None:
        self.workdir = workdir
        self.threads = threads
        self.inputs = inputs
        self.limits = limits or Limits()
        self.snapshot = snapshot or Snapshot("")
        self._own_folders: dict[Path, Path | None] = {}
        self._emit = emit
        self._derived = derived
        self._derived_since_submit = derived_since_submit
        self._hashes = hashes or {}
        self._on_damage = on_damage
        self._on_derivative = on_derivative
        self._intact: set[str] = set()
        self._furthest = 0.0
        self._artifacts: dict[str, PublishedArtifact[Path]] = {}
        self._edits: list[Edit[Path]] = []
        self._descriptions: dict[str, DescribeEntry] = {}
        self._derivatives: dict[tuple[str, str], PutDerivative[Path]] = {}
        self._result: Mapping[str, Any] | None = None

    def input(self, path: str) -> Path:
        """The file with the entry's content."""
        try:
            return self.inputs[path]
        except KeyError:
            raise TaskFailed(
                f"The tool opened {paths.shown(path)}, which its plan doesn't read.",
                code="undeclared-input",
            ) from None

    def content_hash(self, path: str) -> str:
        """The hash that the input was stored with; read from the file where none is known."""
        file = self.input(path)
        return self._hashes.get(path) or _sha256_of(file)

    def check_content(self, path: str, sha256: str | None = None) -> None:
        """Compare an input's hash with the recorded one, once; a damaged input is reported to the worker."""
        file = self.input(path)
        if path in self._intact or path not in self._hashes:
            return
        if (sha256 or _sha256_of(file)) != self._hashes[path]:
            self._on_damage(path)
            raise TaskFailed(
                f"The stored content of {paths.shown(path)} is damaged: its SHA-256 isn't the one that it was stored "
                "with. Upload the file again, or ask an administrator to repair it from a backup.",
                code="content-damaged",
            )
        self._intact.add(path)

    def check_contents(self) -> None:
        """Check all inputs, several at a time.

        Raises:
            TaskFailed: one is damaged (`content-damaged`).
        """
        with ThreadPoolExecutor(max(self.threads, 1)) as pool:
            for _ in pool.map(self.check_content, self.inputs):
                pass

    def progress(self, fraction: float, phase: str | None = None) -> None:
        """Emit the progress; a smaller fraction than before counts as the previous one."""
        self._furthest = min(max(self._furthest, fraction), 1.0)
        self._emit(RunProgress(self._furthest, None if phase is None else clean_line(phase)))

    def log(self, line: str) -> None:
        """Emit each line of the text."""
        for part in line.splitlines() or [""]:
            self._emit(LogLine(clean_line(part)))

    def publish(self, path: Path, *, name: str, media_type: str, sha256: str | None = None) -> None:
        """Declare an artifact; another one of the same name replaces it."""
        safe = paths.file_name(name)
        self._artifacts[safe] = PublishedArtifact(self._own_file(path), safe, media_type, sha256)

    def put_entry(
        self, path: Path, *, at: str, existing: Existing = Existing.REPLACE, mtime: int | None = None
    ) -> None:
        """Declare an edit that puts the file at the path `at`."""
        self._edits.append(PutEntry(self._own_file(path), paths.entry_path(at), existing, mtime))

    def put_folder(self, *, at: str, mtime: int | None = None) -> None:
        """Declare an edit that creates a folder."""
        self._edits.append(PutFolder(paths.entry_path(at), mtime))

    def remove_entry(self, path: str) -> None:
        """Declare an edit that removes the entry."""
        self._edits.append(RemoveEntry(paths.entry_path(path)))

    def describe_entry(self, description: DescribeEntry) -> None:
        """Declare the index metadata of an input."""
        self.input(description.at)
        self._descriptions[description.at] = replace(
            description,
            properties=clean_json(description.properties),
            point_geom=clean_json(description.point_geom),
            polygon_geom=clean_json(description.polygon_geom),
        )

    def has_derivative(self, of: str, *, kind: str, builder: str, since_submit: bool = False) -> bool:
        """True if the entry's content had the derivative when the run began."""
        return (of, kind, builder) in (self._derived_since_submit if since_submit else self._derived)

    def put_derivative(
        self, path: Path, *, of: str, kind: str, builder: str, properties: Mapping[str, Any]
    ) -> None:
        """Emit a derivative immediately; another one of the same kind and entry replaces it."""
        self.input(of)
        if not _KIND.fullmatch(kind):
            raise TaskFailed("A derivative's kind has 1 to 32 characters of a-z and 0-9.", code="bad-output")
        made = PutDerivative(self._own_file(path), of, kind, builder, clean_json(properties))
        self._derivatives[of, kind] = made
        self._on_derivative(made)

    def result(self, outcome: Mapping[str, Any]) -> None:
        """Declare the structured outcome; a second declaration replaces the first."""
        self._result = clean_json(outcome)

    def changes(self) -> ChangeSet:
        """Everything declared so far."""
        return ChangeSet(
            tuple(self._artifacts.values()),
            tuple(self._edits),
            self._result,
            tuple(self._descriptions.values()),
            tuple(self._derivatives.values()),
        )

    def _own_file(self, path: Path) -> Path:
        folder = self._own_folder(path.parent)
        own = None if folder is None else folder / path.name
        if own is None or own.is_symlink() or not own.is_file():
            raise TaskFailed(
                "The tool declared an output that is not a file in its work folder.",
                code="bad-output",
            )
        return own

    def _own_folder(self, folder: Path) -> Path | None:
        """The folder's resolved path if it is in the work folder, else None; cached."""
        if folder not in self._own_folders:
            real = folder.resolve()
            self._own_folders[folder] = real if real.is_relative_to(self.workdir.resolve()) else None
        return self._own_folders[folder]


def _sha256_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()

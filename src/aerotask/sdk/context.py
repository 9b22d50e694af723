"""What a running tool can do: see its inputs, tell how far it is, and declare what should change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from aerotask.sdk.changes import DescribeEntry, Existing
from aerotask.sdk.limits import Limits
from aerotask.sdk.snapshot import Snapshot


class Cancelled(BaseException):
    """The task has been cancelled. Not an `Exception`, so that a tool's own handlers let it pass."""


class RunContext(Protocol):
    """Handed to `Tool.run`. Every method raises `Cancelled` once the task is cancelled.

    Nothing takes effect before the run has ended well: the platform applies all declared changes in one
    transaction, or none of them.
    """

    @property
    def workdir(self) -> Path:
        """A private, empty folder on the disk that outputs should be written to."""

    @property
    def threads(self) -> int:
        """How many threads the run may keep busy."""

    @property
    def limits(self) -> Limits:
        """What the installation allows."""

    @property
    def snapshot(self) -> Snapshot:
        """The dataset's slug, and the entries that `Tool.snapshot_of` asked for."""

    @property
    def inputs(self) -> Mapping[str, Path]:
        """Every input by its path."""

    def input(self, path: str) -> Path:
        """The content of a dataset entry as a read-only file under the entry's own name."""

    def progress(self, fraction: float, phase: str | None = None) -> None:
        """Say how much of the work is done, from 0 to 1; it never goes backwards for those who watch."""

    def log(self, line: str) -> None:
        """Add a line that a person can follow."""

    def publish(self, path: Path, *, name: str, media_type: str, sha256: str | None = None) -> None:
        """Offer the file at `path` for download as `name`; the first that is offered is the task's result.

        A `sha256` that the tool computed while it wrote spares the platform reading the file once more.
        """

    def put_entry(self, path: Path, *, at: str, existing: Existing = Existing.REPLACE) -> None:
        """Put the file at `path` into the dataset as entry `at`; `existing` tells what becomes of a file there."""

    def put_folder(self, *, at: str) -> None:
        """Make the folder `at`, with all above it; one that is there stays."""

    def remove_entry(self, path: str) -> None:
        """Remove the entry at `path`, with everything below it if it is a folder."""

    def describe_entry(self, description: DescribeEntry) -> None:
        """Have the index say this of an entry, unless its content is another by the time the run ends.

        The path must be among the inputs of the run.
        """

    def has_derivative(self, of: str, *, kind: str, builder: str) -> bool:
        """Whether what the entry holds has that derivative already, made by that version of its builder."""

    def put_derivative(
        self, path: Path, *, of: str, kind: str, builder: str, properties: Mapping[str, Any]
    ) -> None:
        """Keep the file at `path` as the derivative of entry `of`, which the plan reads and writes.

        It belongs to the content that the run has read: an entry that has been replaced meanwhile doesn't get it.
        """

    def result(self, outcome: Mapping[str, Any]) -> None:
        """Set the structured outcome of the run (JSON values)."""

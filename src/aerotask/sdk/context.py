"""Run context: gives a running tool its inputs, and takes its progress, log and changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from aerotask.sdk.changes import DescribeEntry, Existing
from aerotask.sdk.limits import Limits
from aerotask.sdk.snapshot import Snapshot


class Cancelled(BaseException):
    """The task was cancelled. A `BaseException`, so that `except Exception` in a tool doesn't catch it."""


class RunContext(Protocol):
    """Context of one run, passed to `Tool.run`. Every method raises `Cancelled` once the task is cancelled.

    Changes take effect when the run has succeeded: the platform commits all of them in one transaction, or none.
    Derivatives alone are published while the run goes on.
    """

    @property
    def workdir(self) -> Path:
        """A private folder for output files, empty at first."""

    @property
    def threads(self) -> int:
        """The number of threads that the run may keep busy."""

    @property
    def limits(self) -> Limits:
        """The installation's limits."""

    @property
    def snapshot(self) -> Snapshot:
        """The dataset's slug, and the entries that `Tool.snapshot_of` names."""

    @property
    def inputs(self) -> Mapping[str, Path]:
        """The input files by their dataset paths."""

    def input(self, path: str) -> Path:
        """The content of an input as a read-only file with the entry's name."""

    def content_hash(self, path: str) -> str:
        """The SHA-256 of an input's content, in hex: equal for inputs with equal content."""

    def check_content(self, path: str, sha256: str | None = None) -> None:
        """Compare the hash of an input, read anew unless it is given, with the one that it was stored with.

        Raises:
            TaskFailed: they differ, since the stored file is damaged (`content-damaged`).
        """

    def progress(self, fraction: float, phase: str | None = None) -> None:
        """Report progress from 0 to 1; clients never see it go backwards."""

    def log(self, line: str) -> None:
        """Add a line to the task's log."""

    def publish(self, path: Path, *, name: str, media_type: str, sha256: str | None = None) -> None:
        """Publish the file at `path` as the artifact `name`; the first artifact is the task's result.

        With a `sha256` that the tool computed while writing, the platform needn't read the file again.
        """

    def put_entry(
        self, path: Path, *, at: str, existing: Existing = Existing.REPLACE, mtime: int | None = None
    ) -> None:
        """Put the file at `path` into the dataset as entry `at`; `existing` says how to treat a file there.

        `mtime` is the time of its last change in Unix seconds, by default that of the commit.
        """

    def put_folder(self, *, at: str, mtime: int | None = None) -> None:
        """Create the folder `at` and its parents, unless it exists; `mtime` as for `put_entry`."""

    def remove_entry(self, path: str) -> None:
        """Remove the entry at `path`, with everything below it if it is a folder."""

    def describe_entry(self, description: DescribeEntry) -> None:
        """Set an input's index metadata, unless its content is replaced before the run ends."""

    def has_derivative(self, of: str, *, kind: str, builder: str, since_submit: bool = False) -> bool:
        """True if the content of entry `of` had the derivative when the run began, made by that version of its builder.

        With `since_submit`, only one that was made since the task was submitted counts, as by an earlier attempt.
        """

    def put_derivative(
        self, path: Path, *, of: str, kind: str, builder: str, properties: Mapping[str, Any]
    ) -> None:
        """Publish the file at `path` as a derivative of entry `of`, which the plan must read and write.

        The platform moves the file away and publishes it while the run goes on, so verify it before. It stays even if the
        run fails or is cancelled later. It belongs to the content that the run has read: an entry that was replaced
        meanwhile doesn't get it.
        """

    def result(self, outcome: Mapping[str, Any]) -> None:
        """Set the structured outcome of the run (JSON values)."""

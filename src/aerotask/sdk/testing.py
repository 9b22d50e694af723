"""Test harness for tools: runs any tool on a folder of files, without a server."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.domain import paths
from aerotask.sdk.changes import ChangeSet
from aerotask.sdk.dataset import DatasetView, EntryView
from aerotask.sdk.dry_run import DryRun
from aerotask.sdk.limits import Limits
from aerotask.sdk.params import ToolParams
from aerotask.sdk.plan import Plan, raise_if_unplanned
from aerotask.sdk.run import LogLine, Run, RunProgress
from aerotask.sdk.snapshot import Snapshot, entry_line
from aerotask.sdk.tool import Tool

Describe = Callable[[Path], tuple[str, Mapping[str, Any]]]
"""Describes a file as the index would: its entry type and its properties."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """Outcome of one run: its plan, the changes that it declared, its log and its progress."""

    plan: Plan
    changes: ChangeSet
    log: tuple[str, ...]
    progress: tuple[RunProgress, ...]

    @property
    def artifact(self) -> Path:
        """The published file."""
        if not self.changes.artifacts:
            raise LookupError("The tool published no artifact.")
        return self.changes.artifacts[0].content

    @property
    def result(self) -> Mapping[str, Any]:
        """The structured outcome; empty if the tool set none."""
        return self.changes.result or {}


@dataclass(frozen=True, slots=True)
class ToolHarness:
    """Runs tools on the folder `dataset`, with `workdir` for their output.

    Without `describe`, entries count as not yet indexed, so that only a run finds faults in files.
    """

    dataset: Path
    workdir: Path
    describe: Describe | None = None
    threads: int = field(default=2, kw_only=True)
    limits: Limits = field(default_factory=Limits, kw_only=True)
    recorded: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """The hashes that inputs were stored with, where they differ from their files', as if these were damaged."""

    def view(self) -> DatasetView:
        """The folder's files and folders as entries."""
        found = (self._entry(path) for path in sorted(self.dataset.rglob("*")))
        return DatasetView(
            slug=self.dataset.name, entries={entry.path: entry for entry in found}, limits=self.limits
        )

    def check(self, tool: Tool[Any], params: Mapping[str, Any]) -> Plan:
        """Check the parameters as a submit does, and plan the run.

        Raises:
            pydantic.ValidationError: the parameters don't fit the schema.
            InvalidInput: the tool refuses them.
        """
        parsed, view = self._parse(tool, params), self.view()
        tool.check(parsed, view)
        return tool.plan(parsed, view)

    def dry_run(self, tool: Tool[Any], params: Mapping[str, Any]) -> DryRun:
        """Check and plan as a submit does, and do the tool's dry run.

        Raises:
            pydantic.ValidationError, InvalidInput: as `check`.
        """
        self.check(tool, params)
        return tool.dry_run(self._parse(tool, params), self.view())

    def preview(self, tool: Tool[Any], params: Mapping[str, Any], *, longest_px: int) -> bytes:
        """Check and plan as a submit does, and draw the tool's preview in this process.

        Raises:
            pydantic.ValidationError, InvalidInput: as `check`.
            InvalidInput: as the tool raises it.
        """
        plan = self.check(tool, params)
        return tool.preview(self._parse(tool, params), self._inputs(plan), longest_px=longest_px)

    def run(self, tool: Tool[Any], params: Mapping[str, Any]) -> ToolOutcome:
        """Check, plan and run the tool in this process.

        Raises:
            InvalidInput, TaskFailed: as the tool raises them.
            TaskFailed: it changes a path that its plan doesn't name (`bad-output`), as in a worker.
        """
        plan = self.check(tool, params)
        parsed = self._parse(tool, params)
        events: list[RunProgress | LogLine] = []
        run = Run(
            inputs=self._inputs(plan),
            workdir=self.workdir,
            threads=self.threads,
            emit=events.append,
            limits=self.limits,
            snapshot=self._snapshot(tool.snapshot_of(parsed)),
            hashes=self.recorded,
        )
        if tool.verifies_inputs:
            run.check_contents()
        tool.run(parsed, run)
        changes = run.changes()
        for path in _changed_paths(changes):
            raise_if_unplanned(path, plan.writes)
        return ToolOutcome(
            plan=plan,
            changes=changes,
            log=tuple(event.text for event in events if isinstance(event, LogLine)),
            progress=tuple(event for event in events if isinstance(event, RunProgress)),
        )

    def _inputs(self, plan: Plan) -> dict[str, Path]:
        return {path: self.dataset / path for path in plan.reads}

    def _snapshot(self, folders: Sequence[str]) -> Snapshot:
        if not folders:
            return Snapshot(self.dataset.name)
        handle, file = tempfile.mkstemp(suffix=".snapshot", dir=self.workdir.parent)
        with os.fdopen(handle, "wb") as lines:
            for path, entry in self.view().entries.items():
                if any(paths.within(path, folder) for folder in folders):
                    lines.write(entry_line(entry))
        return Snapshot(self.dataset.name, Path(file))

    @staticmethod
    def _parse(tool: Tool[Any], params: Mapping[str, Any]) -> ToolParams:
        return tool.params.model_validate_json(json.dumps(params))

    def _entry(self, path: Path) -> EntryView:
        relative = path.relative_to(self.dataset).as_posix()
        if path.is_dir():
            return EntryView(relative, "directory", "", 0, indexed=True, mtime=int(path.stat().st_mtime))
        kind, properties = self.describe(path) if self.describe else ("generic", {})
        with path.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        return EntryView(
            relative,
            kind,
            self.recorded.get(relative, sha256),
            path.stat().st_size,
            indexed=self.describe is not None,
            properties=properties,
            mtime=int(path.stat().st_mtime),
        )


ToolBench = ToolHarness
Outcome = ToolOutcome
"""The names of `ToolHarness` and `ToolOutcome` before 0.2; to be removed in the release after it."""


def _changed_paths(changes: ChangeSet) -> Iterator[str]:
    yield from (edit.at for edit in changes.edits)
    yield from (description.at for description in changes.descriptions)
    yield from (derivative.of for derivative in changes.derivatives)

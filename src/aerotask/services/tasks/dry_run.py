"""Dry runs: check and plan a tool's params without submitting a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aerotask.db.engine import Database
from aerotask.domain.access import Access, Caller
from aerotask.domain.errors import AerotaskError, FieldError, InvalidInput, TooLarge
from aerotask.domain.text_cleaning import clean_json
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.tasks.planning import PlannedRun, dry_run
from aerotask.services.tasks.quota import raise_if_oversized
from aerotask.services.tasks.submit import SubmitService

_PARAMS = "/params"


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """Result of a dry run: the errors that a submit would be refused for, or else warnings and a summary."""

    errors: tuple[FieldError, ...] = ()
    warnings: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if a submit would be accepted, apart from quotas on tasks."""
        return not self.errors


@dataclass(frozen=True, slots=True)
class DryRunService:
    """Runs the checks of a submit on index metadata, without committing anything."""

    db: Database
    access: PermissionService
    submits: SubmitService

    async def validate(
        self, caller: Caller, org_slug: str, slug: str, tool_id: str, params: Mapping[str, Any]
    ) -> DryRunResult:
        """Check and plan the params, and do the tool's own dry run; read access to the dataset is enough.

        Raises:
            Unauthenticated, NotFound: the caller can't read the dataset.
            InvalidInput: there is no such tool, or it can't run on this installation.
        """
        dataset = await self.access.dataset(caller, org_slug, slug, to=Access.READ)
        tool = self.submits.available_tool(tool_id, None)
        try:
            run, found = await dry_run(self.db, dataset.row, tool, params, limits=self.submits.limits)
            raise_if_oversized(self.submits.quotas, run.plan.estimated_output_bytes)
        except InvalidInput as error:
            return DryRunResult(errors=_errors(error))
        except TooLarge as error:
            return DryRunResult(errors=(_whole(error),))
        summary = {**_planned(run), **found.summary}
        return DryRunResult(warnings=found.warnings, summary=clean_json(summary))


def _planned(run: PlannedRun) -> dict[str, Any]:
    return {
        "toolId": run.tool.id,
        "version": run.tool.version,
        "estimatedOutputBytes": run.plan.estimated_output_bytes,
        "memoryBytes": run.plan.memory_bytes,
        "reads": list(run.plan.reads),
        "writes": list(run.plan.writes),
    }


def _errors(error: InvalidInput) -> tuple[FieldError, ...]:
    """The parts of an error, each with its code; pointers lead into the body, which is the params themselves."""
    if not error.errors:
        return (_whole(error),)
    return tuple(
        FieldError(fault.pointer.removeprefix(_PARAMS), fault.message, fault.code or error.code)
        for fault in error.errors
    )


def _whole(error: AerotaskError) -> FieldError:
    return FieldError("", error.message, error.code)

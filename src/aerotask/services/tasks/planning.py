"""Planning of runs: validates a tool's params, checks them against the index, and plans, without committing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from aerotask.db.engine import Database
from aerotask.domain import paths
from aerotask.domain.access import Access
from aerotask.domain.errors import FieldError, Forbidden, InvalidInput, json_pointer
from aerotask.domain.ids import DatasetId
from aerotask.domain.suggestions import message_of
from aerotask.sdk import DatasetView, DryRun, Limits, Plan, Tool, ToolParams
from aerotask.services.datasets.entry_view import entry_view
from aerotask.store.datasets import derivatives, entries
from aerotask.store.datasets.datasets import DatasetRow
from aerotask.store.datasets.entries import FOLDER
from aerotask.store.datasets.plan_rows import EntryForPlan, entry_for_plan, find_plan_rows
from aerotask.store.queue.claims import TaskInputRow

MANY = 2000


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """Checked and planned run: the normalised params, the plan, and the contents of its inputs."""

    tool: Tool[Any]
    params: dict[str, Any]
    plan: Plan
    inputs: tuple[TaskInputRow, ...]
    required_access: Access
    dedup_key: bytes


async def plan_run(  # noqa: PLR0913  the tool, its params and their limits
    db: Database,
    dataset: DatasetRow,
    tool: Tool[Any],
    *,
    path: str | None,
    params: Mapping[str, Any],
    limits: Limits,
) -> PlannedRun:
    """Validate the params, check them against the dataset's index, and plan the run.

    Raises:
        InvalidInput: the params don't fit the tool, or name entries that don't exist.
        Forbidden: the plan changes the dataset although the tool declares read access.
    """
    parsed = parse_params(tool, path, params)
    run, _ = await _planned(db, dataset, tool, parsed, limits)
    return run


async def dry_run(
    db: Database, dataset: DatasetRow, tool: Tool[Any], params: Mapping[str, Any], *, limits: Limits
) -> tuple[PlannedRun, DryRun]:
    """Plan the run as `plan_run` does, and do the tool's dry run.

    Raises:
        InvalidInput, Forbidden: as `plan_run`.
    """
    parsed = parse_params(tool, None, params)
    run, view = await _planned(db, dataset, tool, parsed, limits)
    return run, tool.dry_run(parsed, view)


async def _planned(
    db: Database, dataset: DatasetRow, tool: Tool[Any], parsed: ToolParams, limits: Limits
) -> tuple[PlannedRun, DatasetView]:
    rows = await _entries(db, dataset.id, tool, parsed)
    derived = await _derived(db, dataset, tool, rows)

    def plan() -> tuple[PlannedRun, DatasetView]:
        by_path = {row.path: row for row in sorted(rows, key=lambda row: row.path.encode())}
        views = {path: entry_view(row) for path, row in by_path.items()}
        view = DatasetView(dataset.slug, views, limits, derived)
        return _plan_on(tool, parsed, list(by_path.values()), view), view

    # Planning over many entries in the event loop would block all other requests.
    return await asyncio.to_thread(plan) if len(rows) > MANY else plan()


def _plan_on(
    tool: Tool[Any], parsed: ToolParams, rows: Sequence[EntryForPlan], view: DatasetView
) -> PlannedRun:
    plan = _plan(tool, parsed, view)
    reads = set(plan.reads)
    inputs = tuple(
        TaskInputRow(row.path, row.sha256, row.blob_key)
        for row in rows
        if row.path in reads and row.type != FOLDER and row.blob_key is not None
    )
    params = parsed.normalised()
    key = dedup_key(tool.id, tool.version, params, inputs)
    return PlannedRun(tool, params, plan, inputs, tool.required_access(parsed), key)


def _plan(tool: Tool[Any], params: ToolParams, view: DatasetView) -> Plan:
    tool.check(params, view)
    plan = tool.plan(params, view)
    _check_plan(tool, plan, view)
    return plan


def parse_params(tool: Tool[Any], path: str | None, raw: Mapping[str, Any]) -> ToolParams:
    """The tool's parameters from a body's `path` and `params`, which may both give the same `path`.

    Raises:
        InvalidInput: the params don't fit the tool's schema, or the two paths differ.
    """
    merged = dict(raw)
    if path is not None:
        inner = merged.setdefault("path", path)
        if inner != path:
            raise InvalidInput(
                "'path' and 'params.path' are the same parameter and differ; give one of them.",
                code="path-conflict",
            )
    try:
        return tool.params.model_validate_json(orjson.dumps(merged))
    except ValidationError as error:
        faults = tuple(_fault(detail, tool.params) for detail in error.errors(include_url=False))
        first = f"{faults[0].pointer or 'params'}: {faults[0].message}" if faults else ""
        raise InvalidInput(
            f"The params don't fit tool '{tool.id}': {first}", code="invalid-params", errors=faults
        ) from error


def _fault(detail: Any, params: type[ToolParams]) -> FieldError:
    pointer = json_pointer(paths.shown(str(part))[1:-1] for part in ("params", *detail["loc"]))
    cause = detail.get("ctx", {}).get("error")
    message = cause.message if isinstance(cause, InvalidInput) else message_of(detail, params, detail["loc"])
    return FieldError(pointer, message)


async def _entries(
    db: Database, dataset_id: DatasetId, tool: Tool[Any], params: ToolParams
) -> list[EntryForPlan]:
    """The entries that the params name, and everything below named folders; some may occur twice."""
    named = (*params.entry_paths(), *params.new_entry_paths())
    if not named:
        return []
    projection = entry_for_plan(tool.plan_properties)
    async with db.read() as connection:
        rows = await find_plan_rows(connection, dataset_id, named, projection)
    folders = [row.path for row in rows if row.type == FOLDER] + [path for path in named if not path]
    if folders:
        async with db.begin() as connection:
            stream = entries.stream_within(connection, dataset_id, folders, projection, ordered=False)
            rows += [row async for row in stream]
    return rows


async def _derived(
    db: Database, dataset: DatasetRow, tool: Tool[Any], rows: Sequence[EntryForPlan]
) -> frozenset[tuple[str, str, str]]:
    if not tool.uses_derivatives:
        return frozenset()
    async with db.read() as connection:
        made = await derivatives.list_by_source(connection, dataset.id, [row.sha256 for row in rows])
    return frozenset((key, kind, builder) for key, kinds in made.items() for kind, builder in kinds)


def dedup_key(tool_id: str, version: str, params: Mapping[str, Any], inputs: Sequence[TaskInputRow]) -> bytes:
    """Deduplication key: SHA-256 over tool, version, normalised params and the content of every input.

    The params include their defaults; the order of their keys doesn't matter.
    """
    identity = {
        "tool": tool_id,
        "version": version,
        "params": params,
        "inputs": sorted((item.path, item.sha256) for item in inputs),
    }
    return hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).digest()


def _check_plan(tool: Tool[Any], plan: Plan, view: DatasetView) -> None:
    """Check that a tool with read access plans no changes, and that the planned inputs exist."""
    if plan.writes and tool.access is Access.READ:
        raise Forbidden(f"Tool '{tool.id}' plans changes but declares that it only reads.")
    for path in plan.reads:
        view.file(path)

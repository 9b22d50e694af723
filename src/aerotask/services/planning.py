"""From what a client asks of a tool to what it would read, make and change, before anything is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from aerotask.domain import paths
from aerotask.domain.access import Access
from aerotask.domain.errors import FieldError, Forbidden, InvalidInput, json_pointer
from aerotask.domain.ids import DatasetId
from aerotask.sdk import DatasetView, EntryView, Limits, Plan, Review, Tool, ToolParams
from aerotask.store import derivatives, entries
from aerotask.store.claims import Input
from aerotask.store.engine import Database
from aerotask.store.entries import FOLDER, EntryRow
from aerotask.store.orgs import DatasetRow

MANY = 2000


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A checked wish to run a tool: the normalised params, the plan, and the contents that it will read."""

    tool: Tool[Any]
    params: dict[str, Any]
    plan: Plan
    inputs: tuple[Input, ...]
    needed_access: Access


async def plan_run(  # noqa: PLR0913  what is asked of which tool, and within which bounds
    db: Database,
    dataset: DatasetRow,
    tool: Tool[Any],
    *,
    path: str | None,
    params: Mapping[str, Any],
    limits: Limits,
) -> PlannedRun:
    """Check the params against the tool and the dataset's index, and have the tool plan.

    Raises:
        InvalidInput: they don't fit the tool, or name what isn't there.
        Forbidden: the plan changes the dataset, although the tool declares that it only reads.
    """
    parsed = parse_params(tool, path, params)
    rows = await _entries(db, dataset.id, parsed)
    return await _plan_on(tool, parsed, rows, await _view(db, dataset, tool, rows, limits))


async def review_run(
    db: Database, dataset: DatasetRow, tool: Tool[Any], params: Mapping[str, Any], *, limits: Limits
) -> tuple[PlannedRun, Review]:
    """As `plan_run`, and have the tool say what it would do.

    Raises:
        InvalidInput, Forbidden: as `plan_run`.
    """
    parsed = parse_params(tool, None, params)
    rows = await _entries(db, dataset.id, parsed)
    view = await _view(db, dataset, tool, rows, limits)
    run = await _plan_on(tool, parsed, rows, view)
    return run, tool.review(parsed, view)


async def _plan_on(
    tool: Tool[Any], parsed: ToolParams, rows: Sequence[EntryRow], view: DatasetView
) -> PlannedRun:
    # So many entries would hold up everybody else's requests.
    plan = (
        await asyncio.to_thread(_plan, tool, parsed, view) if len(rows) > MANY else _plan(tool, parsed, view)
    )
    wanted = set(plan.reads)
    inputs = tuple(
        Input(row.path, row.sha256, row.blob_key)
        for row in rows
        if row.path in wanted and row.type != FOLDER and row.blob_key is not None
    )
    return PlannedRun(tool, parsed.normalised(), plan, inputs, tool.needed_access(parsed))


def _plan(tool: Tool[Any], params: ToolParams, view: DatasetView) -> Plan:
    tool.check(params, view)
    plan = tool.plan(params, view)
    _refuse_undeclared(tool, plan, view)
    return plan


def parse_params(tool: Tool[Any], path: str | None, raw: Mapping[str, Any]) -> ToolParams:
    """The tool's parameters from a body's `path` and `params`, which may both name the same `path`.

    Raises:
        InvalidInput: they don't fit the tool's schema, or the two paths differ.
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
        faults = tuple(_fault(detail) for detail in error.errors(include_url=False))
        first = f"{faults[0].pointer or 'params'}: {faults[0].message}" if faults else ""
        raise InvalidInput(
            f"The params don't fit tool '{tool.id}': {first}", code="invalid-params", errors=faults
        ) from error


def _fault(detail: Any) -> FieldError:
    pointer = json_pointer(paths.shown(str(part))[1:-1] for part in ("params", *detail["loc"]))
    cause = detail.get("ctx", {}).get("error")
    return FieldError(pointer, cause.message if isinstance(cause, InvalidInput) else detail["msg"])


async def _entries(db: Database, dataset_id: DatasetId, params: ToolParams) -> list[EntryRow]:
    named = (*params.entry_paths(), *params.new_entry_paths())
    if not named:
        return []
    async with db.read() as connection:
        return await entries.find_named(connection, dataset_id, named)


async def _derived(
    db: Database, dataset: DatasetRow, tool: Tool[Any], rows: Sequence[EntryRow]
) -> frozenset[tuple[str, str, str]]:
    if not tool.sees_derivatives:
        return frozenset()
    async with db.read() as connection:
        made = await derivatives.made_in(connection, dataset.id, [row.sha256 for row in rows])
    return frozenset((key, kind, builder) for key, kinds in made.items() for kind, builder in kinds)


async def _view(
    db: Database, dataset: DatasetRow, tool: Tool[Any], rows: Sequence[EntryRow], limits: Limits
) -> DatasetView:
    entries_by_path = {row.path: entry_view(row) for row in rows}
    return DatasetView(dataset.slug, entries_by_path, limits, await _derived(db, dataset, tool, rows))


def entry_view(row: EntryRow) -> EntryView:
    """An entry as tools see it."""
    return EntryView(
        row.path,
        row.type,
        row.sha256,
        row.size_bytes,
        row.indexed,
        row.properties,
        int(row.modified_at.timestamp()),
        row.point_geom,
        row.polygon_geom,
    )


def _refuse_undeclared(tool: Tool[Any], plan: Plan, view: DatasetView) -> None:
    """A tool that only needs Read must not change anything; a plan must name files that exist."""
    if plan.writes and tool.access is Access.READ:
        raise Forbidden(f"Tool '{tool.id}' plans changes but declares that it only reads.")
    for path in plan.reads:
        view.file(path)

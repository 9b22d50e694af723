"""From what a client asks of a tool to what it would read, make and change, before anything is committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from aerotask.domain import paths
from aerotask.domain.access import Access
from aerotask.domain.errors import FieldError, Forbidden, InvalidInput
from aerotask.domain.ids import DatasetId
from aerotask.sdk import DatasetView, EntryView, Plan, Tool, ToolParams
from aerotask.store import entries
from aerotask.store.claims import Input
from aerotask.store.engine import Database
from aerotask.store.entries import FOLDER, EntryRow
from aerotask.store.orgs import DatasetRow


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A checked wish to run a tool: the normalised params, the plan, and the contents that it will read."""

    tool: Tool[Any]
    params: dict[str, Any]
    plan: Plan
    inputs: tuple[Input, ...]


async def plan_run(
    db: Database, dataset: DatasetRow, tool: Tool[Any], *, path: str | None, params: Mapping[str, Any]
) -> PlannedRun:
    """Check the params against the tool and the dataset's index, and have the tool plan.

    Raises:
        InvalidInput: they don't fit the tool, or name what isn't there.
        Forbidden: the plan changes the dataset, although the tool declares that it only reads.
    """
    parsed = parse_params(tool, path, params)
    rows = await _entries(db, dataset.id, parsed)
    view = _view(dataset, rows)
    tool.check(parsed, view)
    plan = tool.plan(parsed, view)
    _refuse_undeclared(tool, plan, view)
    wanted = set(plan.reads)
    inputs = tuple(
        Input(row.path, row.sha256, row.blob_key)
        for row in rows
        if row.path in wanted and row.type != FOLDER and row.blob_key is not None
    )
    return PlannedRun(tool, parsed.normalised(), plan, inputs)


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
    pointer = "".join(f"/{_escaped(str(part))}" for part in ("params", *detail["loc"]))
    cause = detail.get("ctx", {}).get("error")
    return FieldError(pointer, cause.message if isinstance(cause, InvalidInput) else detail["msg"])


def _escaped(part: str) -> str:
    """A JSON Pointer's reference token (RFC 6901, section 3)."""
    return paths.shown(part)[1:-1].replace("~", "~0").replace("/", "~1")


async def _entries(db: Database, dataset_id: DatasetId, params: ToolParams) -> list[EntryRow]:
    named = (*params.entry_paths(), *params.new_entry_paths())
    if not named:
        return []
    async with db.read() as connection:
        return await entries.find_named(connection, dataset_id, named)


def _view(dataset: DatasetRow, rows: Sequence[EntryRow]) -> DatasetView:
    return DatasetView(
        slug=dataset.slug,
        entries={
            row.path: EntryView(
                row.path, row.type, row.sha256, row.size_bytes, row.indexed, row.properties, row.polygon_geom
            )
            for row in rows
        },
    )


def _refuse_undeclared(tool: Tool[Any], plan: Plan, view: DatasetView) -> None:
    """A tool that only needs Read must not change anything; a plan must name files that exist."""
    if plan.writes and tool.access is Access.READ:
        raise Forbidden(f"Tool '{tool.id}' plans changes but declares that it only reads.")
    for path in plan.reads:
        view.file(path)

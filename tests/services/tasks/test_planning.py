"""Plans over whole datasets: they load only what they need and don't block other requests."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

import pytest
from sqlalchemy import text
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.engine import Database
from aerotask.domain.ids import DatasetId
from aerotask.sdk import DatasetView, EntryView, Limits, Plan, RunContext, Tool, ToolParams
from aerotask.services.tasks.planning import MANY, PlannedRun, plan_run
from aerotask.store.datasets import datasets, entries

FILL = text("""
    INSERT INTO entries (
        id, dataset_id, path, parent, depth, type, blob_key, sha256, size_bytes, indexed, properties, point_geom
    )
        SELECT gen_random_uuid(), CAST(:dataset_id AS uuid), lpad(n::text, 6, '0') || '.jpg', '', 0, 'geoImage',
               'blob-' || n, repeat('0', 64), 10, true, '{"camera": "FC300S", "format": "jpeg"}',
               '{"type": "Point", "coordinates": [1, 2]}'
        FROM generate_series(1, CAST(:count AS int)) n
""")


class Everything(ToolParams):
    """The whole dataset."""

    def entry_paths(self) -> tuple[str, ...]:
        return ("",)


class Taking(Tool[Everything]):
    """Reads all files, records what it saw in which thread, and plans until it may continue."""

    id: ClassVar[str] = "taking"
    version: ClassVar[str] = "1"
    title: ClassVar[str] = "Taking"

    def __init__(self) -> None:
        self.planning, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.thread: int | None = None
        self.seen: list[EntryView] = []

    def plan(self, params: Everything, dataset: DatasetView) -> Plan:
        self.thread = threading.get_ident()
        self.planning.set()
        if not self.go.wait(30):
            raise TimeoutError("nobody was answered meanwhile")
        self.seen = list(dataset.entries.values())
        return Plan(estimated_output_bytes=0, memory_bytes=0, reads=tuple(dataset.entries))

    def run(self, params: Everything, ctx: RunContext) -> None:
        raise NotImplementedError


class TakingFormats(Taking):
    """Uses one property."""

    plan_properties: ClassVar[frozenset[str] | None] = frozenset({"format", "absent"})


class TakingNothing(Taking):
    """Uses no property."""

    plan_properties: ClassVar[frozenset[str] | None] = frozenset()


@pytest.fixture
async def rows(database: Database) -> Rows:
    return await add_dataset(database, await add_user(database, "owner"), "acme")


async def fill(rows: Rows, count: int) -> None:
    async with rows.db.begin() as connection:
        await connection.execute(FILL, {"dataset_id": str(rows.dataset_id), "count": count})


async def planned(rows: Rows, tool: Tool[Any]) -> PlannedRun:
    async with rows.db.read() as connection:
        dataset = await datasets.get(connection, DatasetId(rows.dataset_id), seen_by=None)
    assert dataset is not None
    return await plan_run(rows.db, dataset, tool, path=None, params={}, limits=Limits())


@pytest.mark.parametrize(
    ("kind", "properties", "point"),
    [
        (Taking, {"camera": "FC300S", "format": "jpeg"}, {"type": "Point", "coordinates": [1, 2]}),
        (TakingFormats, {"format": "jpeg"}, None),
        (TakingNothing, {}, None),
    ],
)
async def test_a_plan_sees_the_properties_that_its_tool_asks_for(
    rows: Rows, kind: type[Taking], properties: dict[str, str], point: dict[str, Any] | None
) -> None:
    await fill(rows, 2)
    tool = kind()
    run = await planned(rows, tool)
    assert [entry.path for entry in tool.seen] == ["000001.jpg", "000002.jpg"]
    assert (tool.seen[0].type, tool.seen[0].size_bytes, tool.seen[0].indexed) == ("geoImage", 10, True)
    assert (tool.seen[0].properties, tool.seen[0].point_geom) == (properties, point)
    assert [(item.path, item.blob_key) for item in run.inputs] == [
        ("000001.jpg", "blob-1"),
        ("000002.jpg", "blob-2"),
    ]


async def test_other_requests_are_answered_during_a_large_plan(rows: Rows) -> None:
    await fill(rows, MANY + 1)
    tool = TakingNothing()
    tool.go.clear()
    planning = asyncio.create_task(planned(rows, tool))
    assert await asyncio.to_thread(tool.planning.wait, 30)
    async with rows.db.read() as connection:
        assert await entries.find(connection, rows.dataset_id, "000001.jpg") is not None
    assert not planning.done()
    tool.go.set()
    run = await planning
    assert (len(run.inputs), tool.thread == threading.get_ident()) == (MANY + 1, False)

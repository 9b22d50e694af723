"""Search for entries by location and by glob pattern."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Text, literal, select
from tests.support.rows import Rows

from aerotask.domain.globs import glob
from aerotask.store.datasets import entry_writes, index_queue, indexing, search
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.datasets.index_queue import IndexLane
from aerotask.store.datasets.indexing import Metadata
from aerotask.store.datasets.search import BoundingBox, EntryFilter


async def put(rows: Rows, *paths: str) -> None:
    async with rows.db.begin() as c:
        for path in paths:
            await entry_writes.put_file(c, rows.dataset_id, path, EntryContent("key", "00ff", 1, "generic"))


async def found(rows: Rows, entry_filter: EntryFilter) -> list[str]:
    async with rows.db.read() as c:
        rows_found = await search.find_matching(c, rows.dataset_id, entry_filter, skip=0, take=100)
    return [row.path for row in rows_found]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (BoundingBox(9, 45, 10, 46), ["milan"]),
        (BoundingBox(9.2, 45.5, 9.2, 45.5), ["milan"]),
        (BoundingBox(-180, -90, 180, 90), ["milan", "suva", "taveuni"]),
        (BoundingBox(177, -20, -179, -10), ["suva", "taveuni"]),
        (BoundingBox(-179, -20, 177, -10), []),
        (BoundingBox(9.21, 45, 10, 46), []),
    ],
)
async def test_entries_with_a_point_in_a_box_are_found(
    rows: Rows, box: BoundingBox, expected: list[str]
) -> None:
    places = {"milan": (9.2, 45.5), "suva": (178.4, -18.1), "taveuni": (-179.98, -16.8)}
    await put(rows, *places, "nowhere")
    async with rows.db.begin() as c:
        for entry in await index_queue.claim(c, IndexLane.SINGLE, max_count=10, lease_s=60):
            if entry.path in places:
                point = {"type": "Point", "coordinates": [*places[entry.path], 120.0]}
                await indexing.finish_all(c, [(entry, Metadata("geoImage", {}, point_geom=point))])
    assert await found(rows, EntryFilter(box=box)) == expected


@pytest.mark.parametrize("prefix", ["a", "é", "z", "~", "\ud7ff", "\U0001f681", "\U0010ffff"])
async def test_the_prefix_range_works_for_every_last_character(rows: Rows, prefix: str) -> None:
    await put(rows, f"{prefix}/x", f"{prefix}/\U0010ffff", f"{prefix}y", "0")
    assert await found(rows, EntryFilter(glob=glob(f"{prefix}/*"))) == [
        f"{prefix}/x",
        f"{prefix}/\U0010ffff",
    ]
    assert f"{prefix}y" in await found(rows, EntryFilter(glob=glob(f"{prefix}*")))


@given(
    pattern=st.text(st.sampled_from(list("ab/*?\\.^$|()[]{}+-!#\n")), min_size=1, max_size=12),
    path=st.text(st.sampled_from(list("ab/\\.^$|()[]{}+-!#\n")), min_size=1, max_size=12),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_postgres_matches_every_pattern_like_python(rows: Rows, pattern: str, path: str) -> None:
    compiled = glob(pattern)
    async with rows.db.read() as c:
        query = select(literal(path, Text).regexp_match(literal(compiled.regex, Text)))
        matched = (await c.execute(query)).scalar_one()
    assert matched is bool(re.fullmatch(compiled.regex.removesuffix("$"), path, re.DOTALL))


async def test_a_name_with_a_line_break_is_matched_as_a_whole(rows: Rows) -> None:
    await put(rows, "a\nb", "a")
    assert await found(rows, EntryFilter(glob=glob("a"))) == ["a"]
    assert await found(rows, EntryFilter(glob=glob("a?b"))) == ["a\nb"]

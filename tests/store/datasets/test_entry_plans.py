"""Rows that Postgres reads for lists, searches and renames in a dataset of 100,000 entries beside as many others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.store.plans import filled_database, rows_read

from aerotask.db.engine import Database, open_database
from aerotask.domain.globs import glob
from aerotask.domain.ids import DatasetId, OrgId, UserId
from aerotask.stack.servers import LocalServers
from aerotask.store.datasets import entries, entry_writes, index_queue, search, tree, uploads
from aerotask.store.datasets.index_queue import IndexLane
from aerotask.store.datasets.search import BoundingBox, EntryFilter
from aerotask.store.tasks import usage

# One test process creates the rows for the whole group.
pytestmark = [pytest.mark.xdist_group("many entries"), pytest.mark.timeout(300)]

ENTRIES = 100_000
MOST_ROWS = 2500

# Two datasets: a folder for every thousand files, and every tenth file a georeferenced image. Each has as much
# metadata as photos have: otherwise reading the whole table would look cheap. The first waits to be indexed: half of it
# as bulk, a quarter one by one, and a quarter for the hour after which files are tried again that were given up.
FILL = """
    INSERT INTO users (id, user_name, password_hash) VALUES ('01000000-0000-7000-8000-000000000000', 'owner', '');
    INSERT INTO organizations (id, slug, name, owner_id)
        SELECT ('02000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'org-' || n, '',
               '01000000-0000-7000-8000-000000000000'
        FROM generate_series(0, 999) n;
    INSERT INTO datasets (id, org_id, slug, name, visibility)
        SELECT ('03000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
               ('02000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'ds', '', 'private'
        FROM generate_series(0, 999) n;
    INSERT INTO entries (id, dataset_id, path, parent, depth, type, blob_key, size_bytes, indexed, properties, point_geom,
                         index_lane, index_org_id, index_due_at)
        SELECT gen_random_uuid(), ('03000000-0000-7000-8000-' || lpad(to_hex(d), 12, '0'))::uuid,
               'flight-' || n / 1000 || '/' || lpad(n::text, 6, '0') || '.jpg', 'flight-' || n / 1000, 1,
               CASE WHEN n % 10 = 0 THEN 'geoImage' ELSE 'image' END, gen_random_uuid()::text, 1000,
               d = 2 OR n % 4 = 3, jsonb_build_object('camera', repeat('x', 500)),
               CASE WHEN n % 10 = 0 THEN jsonb_build_object('type', 'Point', 'coordinates',
                    jsonb_build_array(9 + n / 1e6, 45)) END,
               CASE WHEN d = 1 THEN (ARRAY[0, 1, 1, 3])[n % 4 + 1] ELSE 0 END,
               ('02000000-0000-7000-8000-' || lpad(to_hex(d), 12, '0'))::uuid,
               now() - n * interval '1 second' + CASE WHEN n % 4 = 3 THEN interval '3 days' ELSE interval '0' END
        FROM generate_series(1, 2) d, generate_series(0, :entries - 1) n;
    INSERT INTO entries (id, dataset_id, path, parent, depth, type, indexed)
        SELECT gen_random_uuid(), id, 'flight-' || n, '', 0, 'directory', true
        FROM (SELECT id FROM datasets ORDER BY id LIMIT 2 OFFSET 1) d, generate_series(0, :entries / 1000 - 1) n;
    INSERT INTO dataset_usage (dataset_id, entries, size_bytes)
        SELECT d.id, count(e.id), coalesce(sum(e.size_bytes), 0)
        FROM datasets d LEFT JOIN entries e ON e.dataset_id = d.id GROUP BY d.id;
    INSERT INTO uploads (id, dataset_id, path, size_bytes, expires_at, finished_at)
        SELECT gen_random_uuid(), ('03000000-0000-7000-8000-' || lpad(to_hex(n % 1000), 12, '0'))::uuid, 'x', 1,
               now() + n * interval '1 minute', CASE WHEN n % 10 > 0 THEN now() END
        FROM generate_series(1, 20000) n;
"""
DATASET = DatasetId(UUID("03000000-0000-7000-8000-000000000002"))
ORG = OrgId(UUID("02000000-0000-7000-8000-000000000002"))
OWNER = UserId(UUID("01000000-0000-7000-8000-000000000000"))


@pytest.fixture(scope="module")
def filled(servers: LocalServers) -> Iterator[str]:
    """The URL of a database with 200,000 entries."""
    with filled_database(servers.postgres.url, FILL.replace(":entries", str(ENTRIES))) as url:
        yield url


@pytest.fixture
async def database(filled: str) -> AsyncIterator[Database]:
    opened = open_database(filled, application="tests")
    yield opened
    await opened.close()


def list_of(
    folder: str, *, recursive: bool, after: str = ""
) -> Callable[[AsyncConnection], Awaitable[object]]:
    return lambda c: entries.list_page(c, DATASET, folder, recursive=recursive, after=after, max_count=500)


def search_of(entry_filter: EntryFilter) -> Callable[[AsyncConnection], Awaitable[object]]:
    return lambda c: search.find_matching(c, DATASET, entry_filter, skip=0, take=51)


def claim_of(lane: IndexLane) -> Callable[[AsyncConnection], Awaitable[object]]:
    return lambda c: index_queue.claim(c, lane, max_count=32, lease_s=60, after=ORG)


HOT: dict[str, Callable[[AsyncConnection], Awaitable[object]]] = {
    "list of the root": list_of("", recursive=False),
    "list of a folder": list_of("flight-7", recursive=False),
    "list of everything": list_of("", recursive=True),
    "list of everything, a part in its middle": list_of("", recursive=True, after="flight-7/007500.jpg"),
    "list of everything below a folder": list_of("flight-7", recursive=True),
    "one entry": lambda c: entries.find(c, DATASET, "flight-7/007500.jpg"),
    "several named": lambda c: entries.find_named(c, DATASET, ["flight-7", "flight-8/008000.jpg"]),
    "search for a text": search_of(EntryFilter(text="7500")),
    "search for a text that is nowhere": search_of(EntryFilter(text="nowhere")),
    "search for a name": search_of(EntryFilter(glob=glob("*7500.jpg"))),
    "search for a pattern in a folder": search_of(EntryFilter(glob=glob("flight-7/*99.jpg"))),
    "search for a type": search_of(EntryFilter(types=("pointCloud",))),
    "search for a type and a text": search_of(EntryFilter(types=("geoImage",), text="7500")),
    "search for a place": search_of(EntryFilter(box=BoundingBox(9.05, 44, 9.06, 46))),
    "rename of a folder": lambda c: tree.move(c, DATASET, "flight-7", "other", new_type=None),
    "copy of a folder": lambda c: tree.copy(c, DATASET, "flight-7", "other", new_type=None),
    "longest path of a folder": lambda c: tree.longest_below(c, DATASET, "flight-7"),
    "removal of a folder": lambda c: entry_writes.remove_within(c, DATASET, "flight-7"),
    "use of an organization": lambda c: usage.stored_in_org(c, ORG),
    "open uploads of a user": lambda c: uploads.count_open(c, OWNER),
    **{f"claim to index, lane {lane.name}": claim_of(lane) for lane in IndexLane},
    "expired uploads": lambda c: uploads.remove_expired(c, clock_offset_s=0, max_count=500),
}


# A search for a text reads the dataset's part of an index; with a type or a box it reads the matching part.
WHOLE_DATASET = ENTRIES + ENTRIES // 500
MORE_ROWS = {
    "search for a text": WHOLE_DATASET,
    "search for a text that is nowhere": WHOLE_DATASET,
    "search for a name": WHOLE_DATASET,
    "search for a type and a text": WHOLE_DATASET // 8,
    "search for a place": WHOLE_DATASET // 8,
}


@pytest.mark.parametrize("name", HOT)
async def test_a_hot_query_reads_little(database: Database, name: str) -> None:
    read = await rows_read(database, HOT[name])
    assert {table: rows for table, rows in read.items() if rows > MORE_ROWS.get(name, MOST_ROWS)} == {}


async def test_a_query_that_reads_everything_would_be_noticed(database: Database) -> None:
    query = text("SELECT count(*) FROM entries WHERE sha256 = 'x'")
    assert (await rows_read(database, lambda c: c.execute(query)))["entries"] > ENTRIES

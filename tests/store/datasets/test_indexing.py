"""Queries of the indexer and of rescans."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from tests.support.rows import Rows

from aerotask.store.datasets import entries, entry_writes, index_queue, indexing
from aerotask.store.datasets.entries import EntryContent, EntryRow
from aerotask.store.datasets.index_queue import IndexLane
from aerotask.store.datasets.indexing import Metadata


async def put(rows: Rows, path: str, key: str) -> None:
    async with rows.db.begin() as connection:
        await entry_writes.put_file(connection, rows.dataset_id, path, EntryContent(key, "00", 1, "generic"))


async def entry(rows: Rows, path: str) -> EntryRow:
    async with rows.db.read() as connection:
        found = await entries.find(connection, rows.dataset_id, path)
    assert found is not None
    return found


def description(path: str, key: str, **values: Any) -> dict[str, Any]:
    row = {"path": path, "blob_key": key, "type": "image", "properties": {"width": 5}}
    return {**row, "point_geom": None, "polygon_geom": None, "lacks_overviews": False, **values}


async def update_metadata(rows: Rows, *descriptions: dict[str, Any]) -> int:
    async with rows.db.begin() as connection:
        return await indexing.update_metadata(connection, rows.dataset_id, descriptions)


async def test_the_metadata_of_many_entries_is_updated_at_once(rows: Rows) -> None:
    await put(rows, "a.jpg", "one")
    await put(rows, "b.jpg", "two")
    point = {"type": "Point", "coordinates": [1.5, 2.5]}
    assert (
        await update_metadata(
            rows, description("a.jpg", "one", point_geom=point), description("b.jpg", "two")
        )
        == 2
    )
    found = await entry(rows, "a.jpg")
    assert (found.type, found.sha256, found.properties) == ("image", "00", {"width": 5})
    assert (found.point_geom, found.polygon_geom, found.indexed) == (point, None, True)


async def test_an_entry_whose_content_was_replaced_stays_unchanged(rows: Rows) -> None:
    await put(rows, "a.jpg", "new")
    assert await update_metadata(rows, description("a.jpg", "old"), description("gone.jpg", "old")) == 0
    found = await entry(rows, "a.jpg")
    assert (found.type, found.indexed, found.properties) == ("generic", False, {})


async def test_a_claim_is_void_after_an_update_of_the_metadata(rows: Rows) -> None:
    await put(rows, "a.jpg", "one")
    async with rows.db.begin() as connection:
        (claimed,) = await index_queue.claim(connection, IndexLane.SINGLE, max_count=5, lease_s=60)
    await update_metadata(rows, description("a.jpg", "one"))
    async with rows.db.begin() as connection:
        assert await indexing.finish_all(connection, [(claimed, Metadata("video", {}))]) == 0
        assert not await indexing.give_up(connection, claimed, Metadata("video", {}), retry_s=60)
    assert (await entry(rows, "a.jpg")).type == "image"


async def test_finishing_many_skips_entries_claimed_by_others(rows: Rows) -> None:
    for path in ("a.jpg", "b.jpg", "c.jpg"):
        await put(rows, path, path)
    async with rows.db.begin() as connection:
        claimed = await index_queue.claim(connection, IndexLane.SINGLE, max_count=3, lease_s=0)
    async with rows.db.begin() as connection:
        (again,) = await index_queue.claim(connection, IndexLane.SLOW, max_count=1, lease_s=60)
    point = {"type": "Point", "coordinates": [1.5, 2.5]}
    found = [(each, Metadata("image", {"width": 5}, point_geom=point)) for each in claimed]
    async with rows.db.begin() as connection:
        assert await indexing.finish_all(connection, found) == 2
        assert await indexing.finish_all(connection, []) == 0
    indexed = {path: (await entry(rows, path)) for path in ("a.jpg", "b.jpg", "c.jpg")}
    assert {path for path, row in indexed.items() if row.indexed} == indexed.keys() - {again.path}
    done = next(row for row in indexed.values() if row.indexed)
    assert (done.type, done.properties, done.point_geom, done.polygon_geom) == (
        *("image", {"width": 5}, point, None),
    )


async def test_an_entry_can_be_marked_for_indexing_again(rows: Rows) -> None:
    await put(rows, "a.shp", "one")
    await update_metadata(rows, description("a.shp", "one"))
    async with rows.db.begin() as connection:
        await indexing.index_again(connection, rows.dataset_id, ["a.shp", "b.shp"])
    assert not (await entry(rows, "a.shp")).indexed
    async with rows.db.begin() as connection:
        claimed = await index_queue.claim(connection, IndexLane.SINGLE, max_count=5, lease_s=60)
    assert [(found.path, found.dataset_id, found.attempt) for found in claimed] == [
        ("a.shp", rows.dataset_id, 1)
    ]


async def test_contents_are_found_by_path(rows: Rows) -> None:
    await put(rows, "a.shx", "one")
    async with rows.db.begin() as connection:
        await entry_writes.add_folders(connection, rows.dataset_id, ["a.dbf"])
    async with rows.db.read() as connection:
        found = await indexing.contents_at(connection, rows.dataset_id, ["a.shx", "a.dbf", "a.prj"])
    assert found == {"a.shx": "one"}


async def test_updating_many_uses_the_index_of_paths(rows: Rows) -> None:
    async with rows.db.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO entries (id, dataset_id, path, parent, depth, type, blob_key) SELECT gen_random_uuid(), "
                ":dataset_id, 'file ' || n, '', 0, 'generic', 'key' FROM generate_series(1, 20000) n"
            ),
            {"dataset_id": rows.dataset_id},
        )
        await connection.execute(text("ANALYZE entries"))
        plan = await connection.execute(
            text(
                "EXPLAIN UPDATE entries SET type = found.type "
                "FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS found(path text, blob_key text, type text) "
                'WHERE entries.dataset_id = :dataset_id AND entries.path = found.path COLLATE "C" '
                "AND entries.blob_key = found.blob_key"
            ).bindparams(
                rows='[{"path": "file 1", "blob_key": "key", "type": "image"}]', dataset_id=rows.dataset_id
            )
        )
        lines = "\n".join(line for (line,) in plan)
    assert "uq_entries_dataset_id" in lines, lines
    assert "Seq Scan on entries" not in lines, lines


async def test_many_paths_are_passed_as_one_parameter(rows: Rows) -> None:
    many = [f"{n}.shp" for n in range(33_000)]
    async with rows.db.begin() as connection:
        await indexing.index_again(connection, rows.dataset_id, many)
        assert await indexing.contents_at(connection, rows.dataset_id, many) == {}

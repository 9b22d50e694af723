"""Queries for derivatives, by the content that they were made from."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.rows import Rows, add_dataset, add_user

from aerotask.db.engine import Database
from aerotask.derivatives.kinds import OVERVIEWS
from aerotask.derivatives.sources import source_key
from aerotask.domain.ids import DatasetId
from aerotask.store.datasets import derivatives, entry_writes
from aerotask.store.datasets.derivatives import NewDerivative
from aerotask.store.datasets.entries import EntryContent


@pytest.fixture
async def acme(database: Database) -> Rows:
    return await add_dataset(database, await add_user(database, "owner"), "acme")


def cog(dataset_id: DatasetId, **values: Any) -> NewDerivative:
    fields = {
        "dataset_id": dataset_id,
        "source_key": "a" * 64,
        "kind": "cog",
        "content_sha256": "a" * 64,
        "builder": "1",
        "blob_key": "first",
        "size_bytes": 10,
        "sha256": "b" * 64,
        "properties": {"bands": []},
    }
    return NewDerivative(**{**fields, **values})


async def test_a_rebuilt_derivative_replaces_the_one_of_the_same_kind(acme: Rows) -> None:
    async with acme.db.begin() as connection:
        await derivatives.put(connection, [cog(acme.dataset_id)])
        await derivatives.put(connection, [cog(acme.dataset_id, kind="gpkg", blob_key="other")])
        await derivatives.put(connection, [cog(acme.dataset_id, builder="2", blob_key="second")])
        rows = await derivatives.find_of(connection, acme.dataset_id, "a" * 64)
        assert [(row.kind, row.builder, row.blob_key) for row in rows] == [
            ("cog", "2", "second"),
            ("gpkg", "1", "other"),
        ]
        made = await derivatives.list_by_source(connection, acme.dataset_id, ["a" * 64])
        assert {key: sorted(kinds) for key, kinds in made.items()} == {
            "a" * 64: [("cog", "2"), ("gpkg", "1")]
        }
        assert await derivatives.list_by_source(connection, acme.dataset_id, ["b" * 64]) == {}
        assert await derivatives.list_by_source(connection, acme.dataset_id, []) == {}


async def test_of_duplicates_in_one_batch_the_last_is_stored(acme: Rows) -> None:
    first, other = cog(acme.dataset_id), cog(acme.dataset_id, kind="gpkg", blob_key="other")
    last = cog(acme.dataset_id, blob_key="last", properties={"bands": [1]})
    async with acme.db.begin() as connection:
        await derivatives.put(connection, [])
        await derivatives.put(connection, [first, other, last])
        rows = await derivatives.find_of(connection, acme.dataset_id, "a" * 64)
    assert [(row.kind, row.blob_key, row.properties) for row in rows] == [
        ("cog", "last", {"bands": [1]}),
        ("gpkg", "other", {"bands": []}),
    ]


async def test_derivatives_are_separate_for_each_dataset(acme: Rows) -> None:
    other = await add_dataset(acme.db, acme.user_id, "other")
    async with acme.db.begin() as connection:
        await derivatives.put(connection, [cog(acme.dataset_id)])
        assert await derivatives.find_of(connection, other.dataset_id, "a" * 64) == []
        assert await derivatives.list_by_source(connection, other.dataset_id, ["a" * 64]) == {}


async def test_derivatives_are_removed_with_their_dataset(acme: Rows) -> None:
    async with acme.db.begin() as connection:
        await derivatives.put(connection, [cog(acme.dataset_id)])
        await connection.execute(text("DELETE FROM datasets"))
        assert (await connection.execute(text("SELECT count(*) FROM derivatives"))).scalar_one() == 0


ROADS = {"maps/roads.shp": "1" * 64, "maps/roads.shx": "2" * 64, "maps/roads.dbf": "3" * 64}


async def put_files(rows: Rows, files: Mapping[str, str]) -> None:
    """Puts files with contents of these hashes."""
    async with rows.db.begin() as connection:
        for path, sha256 in files.items():
            content = EntryContent(f"{path} {sha256}", sha256, 1, "generic")
            await entry_writes.put_file(connection, rows.dataset_id, path, content)


async def remove_unused(rows: Rows) -> list[str]:
    async with rows.db.begin() as connection:
        return sorted(
            await derivatives.remove_unused(
                connection, older_than=timedelta(0), clock_offset_s=60, max_count=100
            )
        )


@pytest.mark.parametrize(
    "files",
    [
        ROADS,
        {**ROADS, "maps/roads.PRJ": "4" * 64, "maps/roads.prj": "0" * 64, "maps/other.cpg": "5" * 64},
        {"maps/Straße.2.SHP": "1" * 64, "maps/Straße.2.shx": "2" * 64, "maps/Straße.shx": "3" * 64},
        {"house.obj": "1" * 64, "house.mtl": "2" * 64, "house.shx": "3" * 64},
        {"m/a_b.obj": "1" * 64, "m/a_b.mtl": "2" * 64, "m/a_b_ö 0.PNG": "3" * 64, "m/a_b.jpg": "4" * 64},
        {"a.ply": "1" * 64, "a.png": "2" * 64, "a/a.png": "3" * 64, "axb.png": "4" * 64, "a.b.las": "5" * 64},
        {"shp": "1" * 64, "a.tif": "2" * 64, "a.shx": "3" * 64, ".shp": "4" * 64, ".dbf": "5" * 64},
    ],
)
async def test_derivatives_of_current_entries_are_kept(acme: Rows, files: Mapping[str, str]) -> None:
    await put_files(acme, files)
    async with acme.db.begin() as connection:
        for path, sha256 in files.items():
            key = source_key(path, files)
            made = cog(acme.dataset_id, source_key=key, content_sha256=sha256, blob_key=path)
            await derivatives.put(connection, [made])
    assert await remove_unused(acme) == []
    async with acme.db.begin() as connection:
        await connection.execute(text("DELETE FROM entries"))
    assert await remove_unused(acme) == sorted(files)


async def test_derivatives_made_before_a_sidecar_file_changed_are_removed(acme: Rows) -> None:
    await put_files(acme, ROADS)
    now = {**ROADS, "maps/roads.dbf": "4" * 64}
    async with acme.db.begin() as connection:
        for name, files in {"before": ROADS, "alone": {"maps/roads.shp": "1" * 64}, "now": now}.items():
            key = source_key("maps/roads.shp", files)
            made = cog(acme.dataset_id, source_key=key, content_sha256="1" * 64, blob_key=name)
            await derivatives.put(connection, [made])
    await put_files(acme, {"maps/roads.dbf": "4" * 64})
    assert await remove_unused(acme) == ["alone", "before"]


async def test_overviews_are_removed_once_there_is_a_cog(acme: Rows) -> None:
    await put_files(acme, {"a.tif": "1" * 64})
    content = {"source_key": "1" * 64, "content_sha256": "1" * 64}
    async with acme.db.begin() as connection:
        overviews = cog(acme.dataset_id, **content, kind=OVERVIEWS, blob_key="overviews")
        await derivatives.put(connection, [overviews])
    assert await remove_unused(acme) == []
    async with acme.db.begin() as connection:
        await derivatives.put(connection, [cog(acme.dataset_id, **content, blob_key="cog")])
        found = await derivatives.find_with(connection, acme.dataset_id, "a.tif", ["cog", OVERVIEWS])
    assert found is not None
    assert {kind: stored.blob_key for kind, stored in found[1].items()} == {
        "cog": "cog",
        OVERVIEWS: "overviews",
    }
    assert await remove_unused(acme) == ["overviews"]


async def test_recent_derivatives_are_kept(acme: Rows) -> None:
    async with acme.db.begin() as connection:
        await derivatives.put(connection, [cog(acme.dataset_id)])
        removed = await derivatives.remove_unused(
            connection, older_than=timedelta(hours=1), clock_offset_s=0, max_count=100
        )
    assert removed == []

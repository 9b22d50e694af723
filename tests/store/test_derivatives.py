"""What was made of a dataset's entries, by the content that it was made from."""

from typing import Any

import pytest
from sqlalchemy import text
from tests.store.conftest import Rows, add_dataset, add_user

from aerotask.domain.ids import DatasetId
from aerotask.store import derivatives
from aerotask.store.derivatives import NewDerivative
from aerotask.store.engine import Database


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


async def test_a_kind_made_anew_takes_the_place_of_the_one_before(acme: Rows) -> None:
    async with acme.db.begin() as connection:
        await derivatives.put(connection, cog(acme.dataset_id))
        await derivatives.put(connection, cog(acme.dataset_id, kind="gpkg", blob_key="other"))
        await derivatives.put(connection, cog(acme.dataset_id, builder="2", blob_key="second"))
        rows = await derivatives.find_of(connection, acme.dataset_id, "a" * 64)
        assert [(row.kind, row.builder, row.blob_key) for row in rows] == [
            ("cog", "2", "second"),
            ("gpkg", "1", "other"),
        ]
        made = await derivatives.made_in(connection, acme.dataset_id)
        assert {key: sorted(kinds) for key, kinds in made.items()} == {
            "a" * 64: [("cog", "2"), ("gpkg", "1")]
        }


async def test_datasets_share_nothing(acme: Rows) -> None:
    other = await add_dataset(acme.db, acme.user_id, "other")
    async with acme.db.begin() as connection:
        await derivatives.put(connection, cog(acme.dataset_id))
        assert await derivatives.find_of(connection, other.dataset_id, "a" * 64) == []
        assert await derivatives.made_in(connection, other.dataset_id) == {}


async def test_they_go_with_their_dataset(acme: Rows) -> None:
    async with acme.db.begin() as connection:
        await derivatives.put(connection, cog(acme.dataset_id))
        await connection.execute(text("DELETE FROM datasets"))
        assert (await connection.execute(text("SELECT count(*) FROM derivatives"))).scalar_one() == 0

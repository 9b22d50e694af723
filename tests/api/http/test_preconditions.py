"""Changes that are made only if an entry is as the client takes it to be."""

from __future__ import annotations

import asyncio
import hashlib

import httpx
import pytest
from tests.support.served import served
from tests.support.world import Dataset, World

from aerotask.config import Settings

OLD, NEW = b"old", b"new"
TAG = f'"{hashlib.sha256(OLD).hexdigest()}"'
OTHER = f'"{"0" * 64}"'


@pytest.fixture
def dataset(world: World) -> Dataset:
    made = world.dataset()
    made.upload("a.txt", OLD, indexed=False)
    return made


def put(dataset: Dataset, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return dataset.client.put(f"{dataset.address}/obj/{path}", content=NEW, headers=named)


def content(dataset: Dataset, path: str) -> bytes:
    return dataset.client.get(f"{dataset.address}/obj/{path}").raise_for_status().content


@pytest.mark.parametrize(
    "headers",
    [
        {"if_none_match": "*"},
        {"if_none_match": TAG},
        {"if_none_match": f"{OTHER}, W/{TAG}"},
        {"if_match": OTHER},
        {"if_match": f"W/{TAG}"},
    ],
)
def test_a_file_that_is_not_as_thought_stays_as_it_is(dataset: Dataset, headers: dict[str, str]) -> None:
    answer = put(dataset, "a.txt", **headers)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed")
    assert content(dataset, "a.txt") == OLD


@pytest.mark.parametrize(
    "headers", [{"if_match": "*"}, {"if_match": f"{OTHER}, {TAG}"}, {"if_none_match": OTHER}]
)
def test_a_file_that_is_as_thought_is_replaced(dataset: Dataset, headers: dict[str, str]) -> None:
    assert put(dataset, "a.txt", **headers).status_code == 201
    assert content(dataset, "a.txt") == NEW


def test_where_nothing_is_there_is_no_content_to_match(dataset: Dataset) -> None:
    assert put(dataset, "b.txt", if_match="*").status_code == 412
    assert put(dataset, "b.txt", if_match=TAG).status_code == 412
    assert dataset.paths() == ["a.txt"]
    assert put(dataset, "b.txt", if_none_match="*").status_code == 201


def test_a_file_is_removed_only_as_thought(dataset: Dataset) -> None:
    address = f"{dataset.address}/obj/a.txt"
    for headers in ({"If-Match": OTHER}, {"If-None-Match": "*"}):
        refused = dataset.client.delete(address, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed")
    assert content(dataset, "a.txt") == OLD
    assert dataset.client.delete(address, headers={"If-Match": TAG}).status_code == 200
    # Without the header it would be 404, so that the condition doesn't count (RFC 9110, section 13.2.1).
    assert dataset.client.delete(address, headers={"If-Match": TAG}).status_code == 404


async def test_of_many_that_create_a_file_one_does(settings: Settings) -> None:
    async with served(settings) as api:
        address = "/orgs/acme/ds/acme/obj/a.txt"

        async def create(number: int) -> int:
            headers = {"If-None-Match": "*"}
            return (await api.client.put(address, content=b"%d" % number, headers=headers)).status_code

        statuses = await asyncio.gather(*(create(number) for number in range(10)))
        assert sorted(statuses) == [201, *[412] * 9]
        winner = b"%d" % statuses.index(201)
        assert (await api.client.get(address)).content == winner

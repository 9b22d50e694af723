"""Conditional changes of entries by If-Match and If-None-Match."""

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
def test_a_failed_precondition_leaves_the_file_unchanged(dataset: Dataset, headers: dict[str, str]) -> None:
    answer = put(dataset, "a.txt", **headers)
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed")
    assert content(dataset, "a.txt") == OLD


@pytest.mark.parametrize(
    "headers", [{"if_match": "*"}, {"if_match": f"{OTHER}, {TAG}"}, {"if_none_match": OTHER}]
)
def test_a_satisfied_precondition_replaces_the_file(dataset: Dataset, headers: dict[str, str]) -> None:
    assert put(dataset, "a.txt", **headers).status_code == 201
    assert content(dataset, "a.txt") == NEW


def test_if_match_fails_without_an_entry(dataset: Dataset) -> None:
    assert put(dataset, "b.txt", if_match="*").status_code == 412
    assert put(dataset, "b.txt", if_match=TAG).status_code == 412
    assert dataset.paths() == ["a.txt"]
    assert put(dataset, "b.txt", if_none_match="*").status_code == 201


def test_deletion_honours_preconditions(dataset: Dataset) -> None:
    address = f"{dataset.address}/obj/a.txt"
    for headers in ({"If-Match": OTHER}, {"If-None-Match": "*"}):
        refused = dataset.client.delete(address, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed")
    assert content(dataset, "a.txt") == OLD
    assert dataset.client.delete(address, headers={"If-Match": TAG}).status_code == 200
    # Without the header the response would be 404, so the condition is ignored (RFC 9110, section 13.2.1).
    assert dataset.client.delete(address, headers={"If-Match": TAG}).status_code == 404


async def test_one_of_many_concurrent_creations_succeeds(settings: Settings) -> None:
    async with served(settings) as api:
        address = "/orgs/acme/ds/acme/obj/a.txt"

        async def create(number: int) -> int:
            headers = {"If-None-Match": "*"}
            return (await api.client.put(address, content=b"%d" % number, headers=headers)).status_code

        statuses = await asyncio.gather(*(create(number) for number in range(10)))
        assert sorted(statuses) == [201, *[412] * 9]
        winner = b"%d" % statuses.index(201)
        assert (await api.client.get(address)).content == winner

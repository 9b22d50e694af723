"""Requests that no route takes: what their answers say."""

import pytest
from tests.support.world import World

CASES = {
    "/no/such/place": "There is nothing at '/no/such/place'; /docs lists all addresses.",
    "/orgs/": "There is nothing at '/orgs/'; leave the slash at its end away: '/orgs'.",
    "/docs//": "There is nothing at '/docs//'; leave the slash at its end away: '/docs'.",
    "/org": "There is nothing at '/org'; did you mean /orgs?",
    "/orgs/acme/ds/field/task": (
        "There is nothing at '/orgs/acme/ds/field/task'; did you mean /orgs/{orgSlug}/ds/{dsSlug}/tasks?"
    ),
    "/a%0Ab": "There is nothing at '/a\\u000ab'; /docs lists all addresses.",
}


@pytest.mark.parametrize("address", CASES)
def test_an_unknown_address_is_answered_with_the_nearest_one(world: World, address: str) -> None:
    for answer in (world.client().get(address), world.client().post(address, json={})):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-route")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == CASES[address]


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("PATCH", "/orgs", "GET, POST"),
        ("POST", "/healthz", "GET"),
        ("PATCH", "/orgs/acme/ds/field/obj/a/b.txt", "GET, HEAD, PUT, DELETE"),
        ("PUT", "/orgs/acme/ds/field/tasks", "GET, POST"),
    ],
)
def test_a_wrong_method_is_answered_with_all_that_the_address_takes(
    world: World, method: str, address: str, allowed: str
) -> None:
    answer = world.client().request(method, address)
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["allow"] == allowed
    assert answer.json()["detail"] == f"{method} isn't possible at this address; it takes {allowed}."


def test_long_addresses_are_cut_in_the_answer(world: World) -> None:
    answer = world.client().get(f"/{'x' * 2000}")
    assert answer.status_code == 404
    assert len(answer.json()["detail"]) < 200

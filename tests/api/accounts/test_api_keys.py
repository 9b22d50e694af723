"""API keys, sessions and users over HTTP, with their audit events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.guarantees.invariants import sql
from tests.support.issuer import AUDIENCE, running_issuer
from tests.support.served import served
from tests.support.world import PASSWORD, Dataset, World

from aerotask.config import Settings


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


def with_key(world: World, owner: httpx.Client, **wished: Any) -> httpx.Client:
    """A client that uses a key of the owner."""
    made = owner.post("/users/me/keys", json={"name": "a program", **wished}).raise_for_status().json()
    program = world.client()
    program.headers["Authorization"] = f"Bearer {made['key']}"
    return program


def test_a_key_acts_for_its_owner_and_is_shown_once(world: World) -> None:
    name = world.user()
    owner = world.client(name)
    made = owner.post("/users/me/keys", json={"name": "nightly", "ttlDays": 7})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()["key"]
    assert key.startswith("atk_")
    assert len(key) >= 40

    program = world.client()
    program.headers["Authorization"] = f"Bearer {key}"
    assert program.get("/users/me").json()["userName"] == name
    (listed,) = owner.get("/users/me/keys").json()
    assert "key" not in listed
    assert listed["lastUsedAt"] is not None
    assert key not in str(sql(world, "SELECT k::text FROM api_keys k"))


def test_a_revoked_key_is_invalid_at_once(world: World) -> None:
    owner = world.client(world.user())
    program = with_key(world, owner)
    assert program.get("/users/me").status_code == 200
    (listed,) = owner.get("/users/me/keys").json()
    assert owner.delete(f"/users/me/keys/{listed['id']}").status_code == 204
    assert program.get("/users/me").status_code == 401
    assert owner.delete(f"/users/me/keys/{listed['id']}").status_code == 404


def test_an_expired_key_is_invalid(world: World) -> None:
    owner = world.client(world.user())
    program = with_key(world, owner)
    (listed,) = owner.get("/users/me/keys").json()
    sql(world, f"UPDATE api_keys SET expires_at = now() WHERE id = '{listed['id']}' RETURNING 1")
    answer = program.get("/users/me")
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


def test_a_read_only_key_changes_nothing(world: World, dataset: Dataset) -> None:
    dataset.upload("a.txt", b"x", indexed=False)
    task = dataset.submit("nothing")
    dataset.wait(task)
    program = with_key(world, world.admin, readOnly=True)
    here = dataset.address
    assert program.get(f"{here}/obj/a.txt").content == b"x"
    assert program.get(f"{here}/tasks/{task}").status_code == 200
    changes = [
        program.put(f"{here}/obj/a.txt", content=b"y"),
        program.delete(f"{here}/obj/a.txt"),
        program.post(f"{here}/tasks", json={"toolId": "nothing"}),
        program.delete(f"{here}/tasks/{task}"),
        program.post(f"{here}/tasks/{task}/restart", json={}),
        program.post(f"{here}/tasks/clear"),
        program.post("/orgs", json={"slug": "from-a-key"}),
        program.delete(f"/orgs/{dataset.org}"),
        program.post("/users", json={"userName": "x", "password": PASSWORD}),
        program.post("/users/me/keys", json={"name": "more"}),
        program.post("/users/me/sign-out"),
        program.get("/users/me/callback-secret"),
    ]
    assert [answer.status_code for answer in changes] == [403] * len(changes)
    assert {answer.json()["code"] for answer in changes} == {"read-only-key"}
    assert dataset.status(task)["state"] == "Succeeded"


def test_a_key_cannot_extend_its_powers(world: World) -> None:
    program = with_key(world, world.admin)
    new = {"oldPassword": PASSWORD, "newPassword": "another good password"}
    answers = [
        program.post("/users/authenticate/refresh"),
        program.post("/users/me/keys", json={"name": "more"}),
        program.put("/users/me/password", json=new),
        program.post("/users/me/sign-out"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "not-by-key")] * 4


@pytest.mark.parametrize("body", [{"name": ""}, {"name": "a\x1b[2J"}, {"name": "k", "ttlDays": 0}, {}])
def test_an_invalid_key_request_is_refused(world: World, body: dict[str, object]) -> None:
    answer = world.admin.post("/users/me/keys", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


def test_deactivation_removes_keys_for_good(world: World) -> None:
    name = world.user()
    program = with_key(world, world.client(name))
    world.admin.put(f"/users/{name}", json={"roles": ["deactivated"]}).raise_for_status()
    assert program.get("/users/me").status_code == 401
    world.admin.put(f"/users/{name}", json={"roles": []}).raise_for_status()
    assert program.get("/users/me").status_code == 401


def test_signing_out_everywhere_ends_sessions_and_leaves_keys(world: World) -> None:
    name = world.user()
    here, there = world.client(name), world.client(name)
    program = with_key(world, here)
    assert here.post("/users/me/sign-out").status_code == 204
    assert [client.get("/users/me").status_code for client in (here, there, program)] == [401, 401, 200]
    assert world.client(name).get("/users/me").status_code == 200


def test_a_changed_password_ends_every_other_session(world: World) -> None:
    name = world.user()
    here, there = world.client(name), world.client(name)
    new = {"oldPassword": PASSWORD, "newPassword": "another good password"}
    token = here.put("/users/me/password", json=new).raise_for_status().json()["token"]
    assert [client.get("/users/me").status_code for client in (here, there)] == [401, 401]
    here.headers["Authorization"] = f"Bearer {token}"
    assert here.get("/users/me").json()["userName"] == name


def test_an_administrator_sets_a_new_password_and_deletes_a_user(world: World) -> None:
    name = world.user()
    user = world.client(name)
    org = world.org(owner=user)
    change = {"roles": [], "password": "given by the administrator"}
    assert world.admin.put(f"/users/{name}", json=change).status_code == 200
    assert user.get("/users/me").status_code == 401
    body = {"username": name, "password": "given by the administrator"}
    token = world.client().post("/users/authenticate", json=body).raise_for_status().json()["token"]
    user.headers["Authorization"] = f"Bearer {token}"
    assert world.admin.delete(f"/users/{name}").status_code == 204
    assert user.get("/users/me").status_code == 401
    assert world.client().post("/users/authenticate", json=body).status_code == 401
    assert world.admin.delete(f"/users/{name}").status_code == 404
    assert world.admin.get(f"/orgs/{org}").json()["owner"] is None
    assert world.admin.delete("/users/admin").status_code == 403


def actions(world: World, **which: str) -> list[str]:
    answer = world.admin.get("/sys/audit", params=which).raise_for_status().json()
    assert answer["total"] >= len(answer["items"])
    return [event["action"] for event in answer["items"]]


def test_the_audit_log_records_changes_of_a_user(world: World) -> None:
    name = world.user()
    user = world.client(name)
    with_key(world, user)
    world.admin.put(f"/users/{name}", json={"roles": []})
    world.admin.delete(f"/users/{name}")
    assert actions(world, target=name) == ["user-deleted", "user-changed", "signed-in", "user-created"]
    assert actions(world, actor=name) == ["key-created", "signed-in"]
    (event,) = world.admin.get("/sys/audit", params={"action": "user-deleted", "target": name}).json()[
        "items"
    ]
    assert (event["actor"], event["address"]) == ("admin", "127.0.0.1")
    assert actions(world, target=name, take="1", skip="1") == ["user-changed"]
    assert actions(world, target=name, until="2026-01-01T00:00:00Z") == []
    assert actions(world, target=name, until="0001-01-01T00:00:00Z", since="9999-12-31T23:59:59Z") == []
    for end in ("yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        for bound in ("since", "until"):
            assert world.admin.get("/sys/audit", params={bound: end}).status_code == 400


def test_the_audit_log_records_grants_deletions_and_cancellations_by_others(world: World) -> None:
    dataset = world.dataset(visibility="public")
    writer = world.member(dataset.org, "readWrite")
    name = writer.get("/users/me").json()["userName"]
    org = dataset.org
    mine, theirs = dataset.submit("nothing"), dataset.seen_by(writer).submit("nothing", force=True)
    for task in (mine, theirs):
        world.admin.delete(f"{dataset.address}/tasks/{task}").raise_for_status()
    dataset.upload("a.txt", b"x", indexed=False)
    world.admin.delete(f"{dataset.address}/obj/a.txt").raise_for_status()
    world.admin.put(dataset.address, json={"visibility": "private"}).raise_for_status()
    world.admin.delete(f"/orgs/{org}/members/{name}").raise_for_status()
    world.admin.delete(dataset.address).raise_for_status()
    world.admin.delete(f"/orgs/{org}").raise_for_status()

    assert actions(world, target=f"/orgs/{org}/members/{name}") == ["member-removed", "member-set"]
    assert actions(world, target=f"{dataset.address}/tasks/{theirs}") == ["task-cancelled-by-other"]
    assert actions(world, target=f"{dataset.address}/tasks/{mine}") == []
    assert actions(world, target=f"{dataset.address}/obj/a.txt") == ["entry-deleted"]
    assert actions(world, target=dataset.address) == [
        "dataset-deleted",
        "visibility-changed",  # to private
        "visibility-changed",  # public from the start
    ]
    assert actions(world, target=f"/orgs/{org}") == ["org-deleted"]


def test_no_secret_is_logged_or_stored(world: World) -> None:
    owner = world.client(world.user())
    made = owner.post("/users/me/keys", json={"name": "k"}).raise_for_status().json()
    secrets = [made["key"], owner.headers["Authorization"].removeprefix("Bearer "), PASSWORD]
    for secret in secrets:
        world.client().get("/users/me", headers={"Authorization": f"Bearer {secret}"})
        world.client().post("/users/authenticate", json={"username": "admin", "password": f"{secret}!"})
        world.client().post("/users/authenticate", json={"username": secret, "password": "x"})
    log = world.stack.log
    assert log is not None
    logged = Path(str(log.name)).read_text(encoding="utf-8")
    logged += str(sql(world, "SELECT a::text FROM audit_events a"))
    assert [secret for secret in secrets if secret in logged] == []


@pytest.fixture
def issuing() -> Iterator[Any]:
    with running_issuer() as issuer:
        yield issuer


async def test_a_token_of_the_configured_issuer_is_accepted(settings: Settings, issuing: Any) -> None:
    named = {"oidc_issuer": issuing.address, "oidc_audience": AUDIENCE, "oidc_allow_private": True}
    async with served(Settings.model_validate({**settings.model_dump(), **named})) as api:
        bearer = {"Authorization": f"Bearer {issuing.token()}"}
        assert (await api.client.get("/users/me", headers=bearer)).status_code == 401
        body = {"userName": "alice", "password": PASSWORD}
        (await api.client.post("/users", json=body)).raise_for_status()
        link = {"roles": [], "subject": "alice-at-the-issuer"}
        (await api.client.put("/users/alice", json=link)).raise_for_status()
        me = (await api.client.get("/users/me", headers=bearer)).json()
        assert (me["userName"], me["subject"]) == ("alice", "alice-at-the-issuer")
        taken = await api.client.put("/users/admin", json={"roles": ["admin"], "subject": link["subject"]})
        assert (taken.status_code, taken.json()["code"]) == (409, "subject-taken")
        refused = await api.client.post("/users/authenticate/refresh", headers=bearer)
        assert (refused.status_code, refused.json()["code"]) == (403, "not-by-issuer")
        issuing.down = True
        issuing.rotate("unheard-of")
        bearer = {"Authorization": f"Bearer {issuing.token()}"}
        assert (await api.client.get("/users/me", headers=bearer)).status_code == 401
        async with api.platform.db.read() as connection:
            kept = (await connection.execute(text("SELECT count(*) FROM users"))).scalar_one()
        assert kept == 2


def test_without_an_issuer_users_have_no_subject(world: World) -> None:
    answer = world.admin.put(f"/users/{world.user()}", json={"roles": [], "subject": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "no-issuer")

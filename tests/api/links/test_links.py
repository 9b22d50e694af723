"""Links are created, listed and revoked by those who may; their tokens are stored and logged nowhere."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from tests.support.served import Served, served
from tests.support.world import World

from aerotask.config import Settings
from aerotask.domain.errors import LimitReached, NotFound
from aerotask.services.accounts.wrong_tokens import MAX_WRONG, WINDOW_S, WrongTokenLimit
from aerotask.services.datasets import links
from aerotask.wiring import Platform

HERE = "/orgs/acme/ds/acme"


async def create(api: Served, **body: Any) -> dict[str, Any]:
    answer = await api.client.post(f"{HERE}/links", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def add_file(api: Served, path: str = "a.txt") -> None:
    (await api.client.put(f"{HERE}/obj/{path}", content=b"x")).raise_for_status()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "invalid-link-target")),
        ({"path": "a/b.txt", "folder": "a"}, (400, "invalid-link-target")),
        ({"path": "a"}, (400, "invalid-link-target")),
        ({"folder": "a/b.txt"}, (400, "invalid-link-target")),
        ({"path": "absent.txt"}, (404, "no-such-entry")),
        ({"folder": "absent"}, (404, "no-such-entry")),
        ({"path": "../a"}, (400, "invalid-path")),
        ({"taskId": "01a202aa-79fd-751d-a0d9-3f78baef0118"}, (404, "no-such-task")),
        ({"folder": "", "ttlS": 0}, (400, "invalid-request")),
        ({"folder": "", "ttlS": 366 * 86400 + 1}, (400, "invalid-request")),
        ({"folder": "", "scope": "write"}, (400, "invalid-request")),
        ({"folder": "", "note": "x\u202ey"}, (400, "invalid-request")),
    ],
)
async def test_invalid_links_are_refused(
    settings: Settings, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    async with served(settings) as api:
        await add_file(api, "a/b.txt")
        answer = await api.client.post(f"{HERE}/links", json=body)
        assert (answer.status_code, answer.json()["code"]) == expected


async def test_only_a_digest_of_the_token_is_stored_and_the_audit_log_has_none(settings: Settings) -> None:
    async with served(settings) as api:
        await add_file(api)
        made = await create(api, path="a.txt", note="for Ann", ttlS=60)
        token = made["baseUrl"].split("/")[-2]
        assert re.fullmatch(r"atl_[A-Za-z0-9_-]{43}", token)
        (await api.client.delete(f"{HERE}/links/{made['id']}")).raise_for_status()
        kept = await create(api, path="a.txt")
        events = (await api.client.get("/sys/audit", params={"target": f"{HERE}/links/{made['id']}"})).json()
        assert [event["action"] for event in events["items"]] == ["link-revoked", "link-created"]
        assert events["items"][1]["details"] == {
            "path": "a.txt",
            "folder": None,
            "taskId": None,
            "scope": "download",
            "ttlS": 60,
        }
        async with api.platform.db.read() as connection:
            for table in ("links", "audit_events"):
                rows = (await connection.execute(text(f"SELECT t::text FROM {table} t"))).scalars().all()
                assert rows
                assert not any(kept["baseUrl"].split("/")[-2] in row or token in row for row in rows)


async def test_an_internal_error_is_logged_without_the_token(settings: Settings) -> None:
    async with served(settings) as api:
        await add_file(api)
        made = await create(api, path="a.txt")
        async with api.platform.db.begin() as connection:
            await connection.execute(text("ALTER TABLE entries RENAME COLUMN depth TO deep"))
        with capture_logs() as log:
            answer = await api.client.get(made["url"])
        assert answer.status_code == 500
        assert [event["path"] for event in log if event["event"] == "request.failed"] == [
            "/links/…/obj/a.txt"
        ]
        assert made["baseUrl"].split("/")[-2] not in str(log)
        assert made["baseUrl"].split("/")[-2] not in answer.text


async def test_a_link_is_listed_without_its_address(settings: Settings) -> None:
    async with served(settings) as api:
        await add_file(api)
        first = await create(api, path="a.txt", note="for Ann")
        second = await create(api, folder="", scope="view")
        listed = (await api.client.get(f"{HERE}/links")).json()
        assert [link["id"] for link in listed] == [second["id"], first["id"]]
        assert listed[1] == {
            "id": first["id"],
            "path": "a.txt",
            "taskId": None,
            "scope": "download",
            "note": "for Ann",
            "owner": "admin",
            "createdAt": listed[1]["createdAt"],
            "expiresAt": first["expiresAt"],
        }
        page = await api.client.get(f"{HERE}/links", params={"take": 1})
        assert (len(page.json()), page.headers["x-total-count"]) == (1, "2")


def test_members_manage_their_own_links_and_administrators_all(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("a.txt", b"x", indexed=False)
    reader, other, admin = (world.member(dataset.org, kind) for kind in ("readOnly", "readWrite", "admin"))
    address = f"{dataset.address}/links"
    made = reader.post(address, json={"path": "a.txt"}).raise_for_status().json()
    assert [len(client.get(address).json()) for client in (reader, other, admin)] == [1, 0, 1]
    assert other.delete(f"{address}/{made['id']}").status_code == 404
    assert world.client().delete(f"{address}/{made['id']}").status_code == 401
    assert world.client(world.user()).get(address).status_code == 404
    assert admin.delete(f"{address}/{made['id']}").status_code == 204
    assert world.client().get(made["url"]).status_code == 404


def test_neither_visitors_nor_read_only_keys_create_links(world: World) -> None:
    dataset = world.dataset(visibility="public")
    address = f"{dataset.address}/links"
    assert world.client().post(address, json={"folder": ""}).status_code == 401
    key = world.admin.post("/users/me/keys", json={"name": "r", "readOnly": True}).json()["key"]
    program = world.client()
    program.headers["Authorization"] = f"Bearer {key}"
    answer = program.post(address, json={"folder": ""})
    assert (answer.status_code, answer.json()["code"]) == (403, "read-only-key")


async def test_a_user_has_a_limited_number_of_links(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "MAX_LINKS", 2)
    async with served(settings) as api:
        made = [await create(api, folder="") for _ in range(2)]
        answer = await api.client.post(f"{HERE}/links", json={"folder": ""})
        assert (answer.status_code, answer.json()["code"]) == (409, "too-many-links")
        (await api.client.delete(f"{HERE}/links/{made[0]['id']}")).raise_for_status()
        await create(api, folder="")


async def test_expired_links_are_removed(settings: Settings) -> None:
    async with served(settings) as api:
        await create(api, folder="")
        await create(api, folder="")
        async with api.platform.db.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE links SET expires_at = now() - interval '1 s' WHERE id = (SELECT min(id::text)::uuid FROM links)"
                )
            )
        assert len((await api.client.get(f"{HERE}/links")).json()) == 1
        assert await api.platform.maintenance.remove_expired_links() == 1
        async with api.platform.db.read() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM links"))).scalar_one() == 1


async def test_a_link_that_one_process_revokes_ends_at_once_in_another(
    settings: Settings, platform: Platform
) -> None:
    async with served(settings) as api:
        await add_file(api)
        made = await create(api, path="a.txt")
        token = made["baseUrl"].split("/")[-2]
        assert (await platform.links.open(token, address=None)).row.id == UUID(made["id"])
        (await api.client.delete(f"{HERE}/links/{made['id']}")).raise_for_status()
        with pytest.raises(NotFound):
            await platform.links.open(token, address=None)


async def test_an_address_that_tries_many_wrong_links_is_refused(settings: Settings) -> None:
    async with served(settings) as api:
        for number in range(MAX_WRONG):
            assert (await api.client.get(f"/links/wrong-{number}/list")).status_code == 404
        valid = await create(api, folder="")
        assert (await api.client.get(valid["url"])).status_code == 200
        answer = await api.client.get("/links/another/list")
        assert (answer.status_code, answer.json()["code"]) == (429, "too-many-wrong-links")
        assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S


def test_one_wrong_link_counts_once_and_the_count_ends_with_the_window() -> None:
    now_s = [0.0]
    limit = WrongTokenLimit(clock=lambda: now_s[0])
    for _ in range(2 * MAX_WRONG):
        limit.record("192.0.2.1", b"the same")
    limit.check("192.0.2.1")
    for number in range(MAX_WRONG):
        limit.record("192.0.2.1", bytes([number]))
    with pytest.raises(LimitReached):
        limit.check("192.0.2.1")
    limit.check("192.0.2.2")
    now_s[0] = WINDOW_S
    limit.check("192.0.2.1")

"""Permissions and credentials lost while a body arrives: without them nothing becomes an entry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import func, select
from tests.support.callers import always, permit
from tests.support.rows import add_dataset, add_user
from tests.support.served import Served, served

from aerotask.config import Settings
from aerotask.db.models import Upload
from aerotask.domain.access import ANONYMOUS, Access, Caller, Membership
from aerotask.domain.errors import Unauthenticated
from aerotask.services.accounts.permissions import Grant
from aerotask.store.accounts import users
from aerotask.store.datasets import orgs
from aerotask.wiring import Platform

D = "/orgs/acme/ds/acme"
HEAD = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
TAIL = b'\r\n--XX\r\nContent-Disposition: form-data; name="path"\r\n\r\nform.txt\r\n--XX--\r\n'
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Writer:
    """A user who may write when a request starts, and the way in which the permission is lost."""

    headers: dict[str, str]
    lose: Callable[[], Awaitable[httpx.Response]]


async def writer(api: Served, way: str) -> Writer:
    """A new writer who will lose the permission in that way."""
    name, platform = f"w-{way}", api.platform
    user_id = await add_user(platform.db, name)  # without a password, since hashing is slow
    async with platform.db.begin() as connection:
        if way == "role-lost":
            await users.set_roles(connection, user_id, is_admin=True, is_deactivated=False)
        else:
            await orgs.set_member(connection, api.rows.org_id, user_id, Membership.READ_WRITE)
    own = {"Authorization": f"Bearer {platform.login.tokens.issue(user_id, name, epoch=0).token}"}
    used, key_id = own, ""
    if way == "key-revoked":
        made = await api.client.post("/users/me/keys", json={"name": "k"}, headers=own)
        used, key_id = {"Authorization": f"Bearer {made.json()['key']}"}, made.json()["id"]
    client, member_at = api.client, f"/orgs/acme/members/{name}"
    ways: dict[str, Callable[[], Awaitable[httpx.Response]]] = {
        "deactivated": lambda: client.put(f"/users/{name}", json={"roles": ["deactivated"]}),
        "role-lost": lambda: client.put(f"/users/{name}", json={"roles": []}),
        "signed-out": lambda: client.post("/users/me/sign-out", headers=own),
        "key-revoked": lambda: client.delete(f"/users/me/keys/{key_id}", headers=own),
        "level-lowered": lambda: client.put(member_at, json={"permissions": "readOnly"}),
        "membership-lost": lambda: client.delete(member_at),
    }
    return Writer(used, ways[way])


WAYS = {
    "deactivated": 401,
    "role-lost": 404,
    "signed-out": 401,
    "key-revoked": 401,
    "level-lowered": 403,
    "membership-lost": 404,
}


async def halves(
    first: bytes,
    is_first_half_stored: Callable[[], Awaitable[bool]],
    lose: Callable[[], Awaitable[httpx.Response]],
    rest: bytes,
) -> AsyncIterator[bytes]:
    """A body whose second half follows after the first was consumed and the sender's permission was lost."""
    yield first
    async with asyncio.timeout(30):
        while not await is_first_half_stored():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.005)
    (await lose()).raise_for_status()
    yield rest


async def entries(api: Served) -> list[str]:
    listed = await api.client.get(f"{D}/list", params={"recursive": True})
    return [entry["path"] for entry in listed.raise_for_status().json()]


async def no_blobs(api: Served) -> bool:
    return list(api.platform.blobs.all_keys()) == []


@pytest.mark.parametrize("form", [False, True], ids=["put", "post"])
async def test_an_upload_becomes_an_entry_only_if_its_sender_may_still_write(
    settings: Settings, *, form: bool
) -> None:
    async with served(settings) as api:
        partial = settings.storage_folder / "partial"

        async def is_first_half_stored() -> bool:
            return any(partial.iterdir())

        for way, status in WAYS.items():
            sender = await writer(api, way)
            content_type = {"Content-Type": "multipart/form-data; boundary=XX"} if form else {}
            first, rest = (HEAD + b"half", b"half" + TAIL) if form else (b"half", b"half")
            answer = await api.client.request(
                "POST" if form else "PUT",
                f"{D}/obj" if form else f"{D}/obj/raw.txt",
                headers={**sender.headers, **content_type},
                content=halves(first, is_first_half_stored, sender.lose, rest),
            )
            assert (way, answer.status_code) == (way, status)
        assert await entries(api) == []
        assert await no_blobs(api)


async def test_a_folder_is_created_only_if_its_sender_may_still_write(platform: Platform) -> None:
    rows = await add_dataset(platform.db, await add_user(platform.db, "owner"), "acme")
    gone = Grant(platform.access, always(ANONYMOUS), rows.dataset_id, Access.WRITE)
    with pytest.raises(Unauthenticated):
        await platform.entries.make_folder(gone, "a")
    still = permit(platform.access, Caller(rows.user_id, "owner"), rows.dataset_id)
    assert (await platform.entries.make_folder(still, "a")).path == "a"


async def test_a_resumable_upload_becomes_an_entry_only_if_its_sender_may_still_write(
    settings: Settings,
) -> None:
    async with served(settings) as api:
        for way, status in WAYS.items():
            sender = await writer(api, way)
            announced = {**TUS, "Upload-Length": "8", "Upload-Metadata": "path Yi50eHQ="}
            made = await api.client.post(f"{D}/uploads", headers={**sender.headers, **announced})
            before = await latest_expiry(api)

            async def is_first_half_stored(before: object = before) -> bool:
                return await latest_expiry(api) != before

            answer = await api.client.patch(
                made.headers["location"],
                headers={
                    **sender.headers,
                    **TUS,
                    "Upload-Offset": "0",
                    "Content-Type": "application/offset+octet-stream",
                },
                content=halves(b"half", is_first_half_stored, sender.lose, b"half"),
            )
            assert (way, answer.status_code) == (way, status)
        assert await entries(api) == []


async def latest_expiry(api: Served) -> object:
    """The latest expiry of an upload, which a request extends as soon as it starts to append."""
    async with api.platform.db.read() as connection:
        return (await connection.execute(select(func.max(Upload.expires_at)))).scalar_one()


async def test_an_upload_survives_a_rename_of_its_dataset(settings: Settings) -> None:
    async with served(settings) as api:
        partial = settings.storage_folder / "partial"

        async def is_first_half_stored() -> bool:
            return any(partial.iterdir())

        async def rename() -> httpx.Response:
            return await api.client.post(f"{D}/rename", json={"slug": "renamed"})

        answer = await api.client.put(
            f"{D}/obj/a.txt", content=halves(b"half", is_first_half_stored, rename, b"half")
        )
        assert answer.status_code == 201
        assert (await api.client.get("/orgs/acme/ds/renamed/obj/a.txt")).content == b"halfhalf"

"""Every route × every kind of caller × own, public, foreign, absent and smuggled things.

A new route needs one line in `ROWS`; without it, the first test fails.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import uuid4

import httpx
from tests.store.conftest import Rows
from tests.support.callers import permit
from tests.support.served import Served, served
from tests.support.world import PASSWORD

from aerotask.config import Settings
from aerotask.domain.access import Access, Caller, Membership, Visibility
from aerotask.domain.ids import DatasetId, OrgId, UserId, new_id
from aerotask.store import api_keys, orgs, submits, users


class Needs(Enum):
    """What a route asks of its caller."""

    NOTHING = "nothing"
    SIGNED_IN = "signed in"
    ADMINISTRATOR = "administrator"
    OWN_KEY = "own key"
    READ = Access.READ
    MEMBER = "membership"
    READ_AS_USER = "read, signed in"
    WRITE = Access.WRITE
    DELETE = Access.DELETE
    ADMIN = Access.ADMIN
    TASK = "task"
    """The right to manage the task: whoever submitted it, and administrators of the organization."""


@dataclass(frozen=True)
class Row:
    """What a route needs, how it is asked so that nothing but rights stands in the way, and its answer then."""

    needs: Needs
    answers: int | None = None
    """The status for those who may; any success if None."""
    request: Mapping[str, Any] = field(default_factory=dict)


def row(needs: Needs, answers: int | None = None, **request: Any) -> Row:
    """`request` are httpx's own arguments: json, data, files, params, content, headers."""
    return Row(needs, answers, request)


D, T = "/orgs/{orgSlug}/ds/{dsSlug}", "/orgs/{orgSlug}/ds/{dsSlug}/tasks/{taskId}"
SIGN_IN = {"username": "stranger", "password": PASSWORD}
NEW_USER = {"userName": "{fresh}", "password": PASSWORD}
ALIGN = {"sourcePath": "a.txt", "referencePath": "b.tif", "outputPath": "c.tif"}
MERGE = {"paths": ["a.txt", "b.tif"], "outputPath": "c.tif"}
TUS = {"Tus-Resumable": "1.0.0"}
ANNOUNCED = {**TUS, "Upload-Length": "1", "Upload-Metadata": "path Yi50eHQ="}  # b.txt
PART = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
SUBMIT = {"toolId": "raster-export", "path": "absent.tif"}

ROWS: dict[str, Row] = {
    "POST /users/authenticate": row(Needs.NOTHING, json=SIGN_IN),
    "POST /users/authenticate/refresh": row(Needs.SIGNED_IN),
    "POST /users/me/sign-out": row(Needs.SIGNED_IN),
    "GET /users/me": row(Needs.SIGNED_IN),
    "PUT /users/me/password": row(Needs.SIGNED_IN, 400, json={"oldPassword": PASSWORD, "newPassword": "x"}),
    "GET /users/me/keys": row(Needs.SIGNED_IN),
    "POST /users/me/keys": row(Needs.SIGNED_IN, json={"name": "a key"}),
    "DELETE /users/me/keys/{keyId}": row(Needs.OWN_KEY),
    "GET /users/me/callback-secret": row(Needs.SIGNED_IN),
    "GET /users": row(Needs.ADMINISTRATOR),
    "POST /users": row(Needs.ADMINISTRATOR, json=NEW_USER),
    "PUT /users/{userName}": row(Needs.ADMINISTRATOR, json={"roles": []}),
    "DELETE /users/{userName}": row(Needs.ADMINISTRATOR),
    "GET /orgs": row(Needs.NOTHING),
    "POST /orgs": row(Needs.SIGNED_IN, json={"slug": "{fresh}"}),
    "GET /orgs/{orgSlug}": row(Needs.READ),
    "PUT /orgs/{orgSlug}": row(Needs.ADMIN, json={"name": "New"}),
    "DELETE /orgs/{orgSlug}": row(Needs.ADMIN),
    "GET /orgs/{orgSlug}/usage": row(Needs.MEMBER),
    "GET /orgs/{orgSlug}/members": row(Needs.ADMIN),
    "POST /orgs/{orgSlug}/members": row(
        Needs.ADMIN, json={"userName": "stranger", "permissions": "readOnly"}
    ),
    "PUT /orgs/{orgSlug}/members/{userName}": row(Needs.ADMIN, json={"permissions": "readOnly"}),
    "DELETE /orgs/{orgSlug}/members/{userName}": row(Needs.ADMIN),
    "GET /orgs/{orgSlug}/ds": row(Needs.READ),
    "POST /orgs/{orgSlug}/ds": row(Needs.WRITE, json={"slug": "{fresh}"}),
    f"GET {D}": row(Needs.READ),
    f"PUT {D}": row(Needs.ADMIN, json={"name": "New"}),
    f"DELETE {D}": row(Needs.ADMIN),
    f"POST {D}/rename": row(Needs.ADMIN, json={"slug": "{fresh}"}),
    f"GET {D}/list": row(Needs.READ),
    f"POST {D}/obj": row(Needs.WRITE, files={"path": (None, "b.txt"), "file": ("b.txt", b"b")}),
    f"PUT {D}/obj/{{path}}": row(Needs.WRITE, content=b"new"),
    f"GET {D}/obj/{{path}}": row(Needs.READ),
    f"DELETE {D}/obj/{{path}}": row(Needs.DELETE),
    f"PUT {D}/obj": row(Needs.WRITE, json={"source": "a.txt", "dest": "b.txt"}),
    f"POST {D}/obj/copy": row(Needs.WRITE, json={"source": "a.txt", "dest": "b.txt"}),
    f"POST {D}/search": row(Needs.READ, json={}),
    f"GET {D}/download": row(Needs.READ, params={"path": "a.txt"}),
    f"OPTIONS {D}/uploads": row(Needs.NOTHING),
    f"POST {D}/uploads": row(Needs.WRITE, headers=ANNOUNCED),
    f"HEAD {D}/uploads/{{uploadId}}": row(Needs.WRITE, 404, headers=TUS),
    f"PATCH {D}/uploads/{{uploadId}}": row(Needs.WRITE, 404, headers=PART, content=b"x"),
    f"POST {D}/uploads/{{uploadId}}": row(
        Needs.WRITE, 404, headers={**PART, "X-HTTP-Method-Override": "PATCH"}, content=b"x"
    ),
    f"DELETE {D}/uploads/{{uploadId}}": row(Needs.WRITE, 404, headers=TUS),
    f"GET {D}/build/{{path}}": row(Needs.READ),
    f"GET {D}/build/{{path}}/{{kind}}": row(Needs.READ, 404),
    f"GET {D}/thumb": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"GET {D}/tilejson.json": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"GET {D}/tiles/{{z}}/{{x}}/{{y}}.png": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"GET {D}/tiles/{{z}}/{{x}}/{{y}}@2x.png": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"POST {D}/view-tokens": row(Needs.READ_AS_USER, json={}),
    f"POST {D}/align/validate": row(Needs.READ, json=ALIGN),
    f"POST {D}/align/preview": row(Needs.READ, 400, json=ALIGN),
    f"POST {D}/merge-multispectral/validate": row(Needs.READ, json=MERGE),
    f"POST {D}/merge-multispectral/preview": row(Needs.READ, 400, json=MERGE),
    f"GET {D}/tasks/tools": row(Needs.READ),
    f"POST {D}/tasks": row(Needs.READ, 400, json=SUBMIT),
    f"GET {D}/tasks": row(Needs.READ),
    f"POST {D}/tasks/clear": row(Needs.WRITE),
    f"GET {T}": row(Needs.READ),
    f"GET {T}/log": row(Needs.READ),
    f"GET {T}/events": row(Needs.READ),
    f"GET {T}/output": row(Needs.READ),
    f"GET {T}/result": row(Needs.READ, 409),
    f"GET {T}/assets": row(Needs.READ),
    f"GET {T}/assets/{{name}}": row(Needs.READ, 409),
    f"GET {T}/tilejson.json": row(Needs.READ, 409),
    f"GET {T}/tiles/{{z}}/{{x}}/{{y}}.png": row(Needs.READ, 409),
    f"GET {T}/tiles/{{z}}/{{x}}/{{y}}@2x.png": row(Needs.READ, 409),
    f"GET {T}/callbacks": row(Needs.TASK),
    f"DELETE {T}": row(Needs.TASK),
    f"POST {T}/retry": row(Needs.TASK, 400),  # its tool is not installed here
    f"POST {T}/restart": row(Needs.TASK, 409, json={}),
    "GET /tasks": row(Needs.SIGNED_IN),
    "GET /sys/tasks": row(Needs.ADMINISTRATOR),
    "GET /sys/audit": row(Needs.ADMINISTRATOR),
    "GET /sys/features": row(Needs.NOTHING),
    "GET /healthz": row(Needs.NOTHING),
    "GET /readyz": row(Needs.NOTHING, 503),
    "GET /metrics": row(Needs.NOTHING),
}

CALLERS = ("anonymous", "stranger", "reader", "writer", "owner", "org-admin", "administrator")
MEMBERS = {
    "reader": Membership.READ_ONLY,
    "writer": Membership.READ_WRITE,
    "org-admin": Membership.ADMIN,
}
RIGHTS: dict[str, frozenset[Access]] = {
    "reader": frozenset({Access.READ}),
    "writer": frozenset({Access.READ, Access.WRITE}),
    **dict.fromkeys(("owner", "org-admin", "administrator"), frozenset(Access)),
}


@dataclass(frozen=True)
class Things:
    """What a request names, by the parameters of the address."""

    kind: str
    names: Mapping[str, str]


class Matrix:
    """Asks every route everything, and notes each answer that isn't as the table says."""

    def __init__(self, api: Served) -> None:
        self.api = api
        self.ids: dict[str, UserId] = {}
        self.tokens: dict[str, str] = {}
        self.lands: dict[str, Things] = {}
        self.faults: list[str] = []
        self.requests = 0

    async def prepare(self) -> None:
        for name in (*CALLERS[1:-1], "outsider"):
            body = {"userName": name, "password": PASSWORD}
            (await self.api.client.post("/users", json=body)).raise_for_status()
        self.tokens["administrator"] = self.api.client.headers.pop("Authorization")
        for name in CALLERS[1:-1]:
            await self.sign_in(name)
        async with self.api.platform.db.read() as connection:
            for found in await users.list_all(connection):
                self.ids["administrator" if found.is_admin else found.user_name] = UserId(found.id)

    async def sign_in(self, name: str) -> None:
        login = {"username": "admin" if name == "administrator" else name, "password": PASSWORD}
        answer = await self.api.client.post("/users/authenticate", json=login)
        self.tokens[name] = f"Bearer {answer.raise_for_status().json()['token']}"

    async def land(self, kind: str) -> Things:
        """An organization with everything in it: the callers' own, one open to all, or somebody else's."""
        if kind not in self.lands:
            self.lands[kind] = await self.fresh_land(kind)
        return self.lands[kind]

    async def fresh_land(self, kind: str) -> Things:
        slug = f"{kind}-{uuid4().hex[:12]}"
        platform = self.api.platform
        org_id, dataset_id = OrgId(new_id()), DatasetId(new_id())
        mine = kind != "foreign"
        rows = Rows(platform.db, org_id, dataset_id, self.ids["writer" if mine else "outsider"])
        task = rows.new_task()
        member = UserId(new_id())
        async with platform.db.begin() as connection:
            await orgs.add(
                connection,
                org_id=org_id,
                slug=slug,
                name=slug,
                description="",
                is_public=kind == "public",
                owner_id=self.ids["owner" if mine else "outsider"],
            )
            await orgs.add_dataset(
                connection,
                dataset_id=dataset_id,
                org_id=org_id,
                slug=slug,
                name=slug,
                tagline="",
                visibility=Visibility.PUBLIC if kind == "public" else Visibility.PRIVATE,
            )
            for name, permissions in MEMBERS.items() if mine else ():
                await orgs.set_member(connection, org_id, self.ids[name], permissions)
            await users.add(
                connection, user_id=member, user_name=f"m-{slug}", email=None, hashed="", is_admin=False
            )
            await orgs.set_member(connection, org_id, member, Membership.READ_ONLY)
            await submits.add(connection, task, by="tests")
        system = Caller(self.ids["administrator"], "admin", is_admin=True)
        await platform.entries.put(permit(platform.access, system, dataset_id), "a.txt", _content())
        names = {
            "orgSlug": slug,
            "dsSlug": slug,
            "taskId": str(task.id),
            "userName": f"m-{slug}",
            "keyId": str(uuid4()),
            "uploadId": str(uuid4()),
            "path": "a.txt",
            "name": "absent.tif",
        }
        return Things(kind, names)

    async def things(self, operation: str, caller: str) -> list[Things]:
        """Everything that the operation can be asked about."""
        own, foreign = await self.land("own"), await self.land("foreign")
        if "{keyId}" in operation and caller in self.ids:
            own = Things("own", {**own.names, "keyId": await self.key(caller)})
            foreign = Things("foreign", {**foreign.names, "keyId": await self.key("outsider")})
        nobodys = {**own.names, "userName": "nobody-here", "keyId": str(uuid4()), "taskId": str(uuid4())}
        if "{" not in operation:
            return [own]
        absent = {**nobodys, "orgSlug": "no-such-org", "dsSlug": "no-such-ds"}
        things = [own, await self.land("public"), foreign, Things("absent", absent)]
        if "{taskId}" in operation:
            # Another dataset's task, under the address of one that the caller may read.
            smuggled = {**own.names, "taskId": foreign.names["taskId"]}
            things += [Things("smuggled", smuggled), Things("no-task", nobodys)]
        return things

    async def key(self, owner: str) -> str:
        """The id of a fresh key of theirs."""
        key_id = new_id()
        async with self.api.platform.db.begin() as connection:
            await api_keys.add(
                connection,
                key_id=key_id,
                user_id=self.ids[owner],
                name="k",
                digest=key_id.bytes,
                read_only=False,
                ttl_s=60,
            )
        return str(key_id)

    async def ask(self, operation: str, caller: str, things: Things) -> httpx.Response:
        method, _, path = operation.partition(" ")
        address = re.sub(r"\{(\w+)\}", lambda found: things.names.get(found[1], "0"), path)
        request = {**ROWS[operation].request}
        if "json" in request:
            fresh = f"fresh-{uuid4().hex[:12]}"
            request["json"] = {k: fresh if v == "{fresh}" else v for k, v in request["json"].items()}
        headers = {**request.pop("headers", {})}
        if caller in self.tokens:
            headers["Authorization"] = self.tokens[caller]
        built = self.api.client.build_request(method, address, headers=headers, **request)
        answer = await self.api.client.send(built, stream=True)
        if "text/event-stream" not in answer.headers.get("content-type", ""):  # that one has no end
            await answer.aread()
        await answer.aclose()
        if method != "GET" and answer.is_success:  # the next request shall find everything as it was
            self.lands.pop(things.kind, None)
        return answer

    async def walk(self, operation: str) -> None:
        """Ask one operation everything."""
        for caller in CALLERS:
            hidden: set[tuple[int, str]] = set()
            for things in await self.things(operation, caller):
                self.requests += 1
                answer = await self.ask(operation, caller, things)
                expected = expectation(ROWS[operation].needs, caller, things.kind, operation)
                if not fits(answer.status_code, expected, ROWS[operation].answers):
                    self.faults.append(
                        f"{operation} as {caller} on {things.kind}: {answer.status_code}, not {expected}"
                    )
                if things.kind in {"foreign", "absent"} and caller != "administrator" and expected:
                    hidden.add((answer.status_code, without_names(answer.text, things)))
            if len(hidden) > 1:
                self.faults.append(f"{operation} as {caller}: foreign and absent differ: {hidden}")
            if operation.endswith("/sign-out") and caller != "anonymous":
                await self.sign_in(caller)


def expectation(needs: Needs, caller: str, kind: str, operation: str) -> int | None:
    """The status of a refusal; None where the caller may do it."""
    anonymous = caller == "anonymous"
    if needs is Needs.NOTHING:
        return None
    if needs in {Needs.SIGNED_IN, Needs.OWN_KEY}:
        if anonymous:
            return 401
        return 404 if needs is Needs.OWN_KEY and kind != "own" else None
    if needs is Needs.ADMINISTRATOR:
        if caller != "administrator":
            return 401 if anonymous else 403
        return 404 if kind == "absent" and "{userName}" in operation else None
    rights = RIGHTS.get(caller, frozenset())
    if kind == "public":
        rights |= {Access.READ}
    if kind == "absent" or (kind == "foreign" and caller != "administrator"):
        rights = frozenset()
    if Access.READ not in rights:
        return 401 if anonymous else 404
    if kind in {"smuggled", "no-task"}:
        return 404
    if needs is Needs.MEMBER:
        return None if RIGHTS.get(caller) else 403
    if needs is Needs.READ_AS_USER:
        return 401 if anonymous else None
    if needs is Needs.TASK:
        return None if Access.ADMIN in rights or caller == "writer" else 403
    return None if needs.value in rights else 403


def fits(status: int, expected: int | None, answers: int | None) -> bool:
    """Whether the status is the refusal that was expected, or that of those who may."""
    if expected is not None:
        return status == expected
    return status == answers if answers else 200 <= status < 300


def without_names(text: str, things: Things) -> str:
    """The answer with what the request named taken out: whatever differs then tells of the thing itself."""
    for name, value in things.names.items():
        text = text.replace(value, f"<{name.removesuffix('Slug')}>") if name != "path" else text
    return text.replace("<org>/<org>", "<org>/<ds>")


async def _content() -> AsyncIterator[bytes]:
    yield b"a"


def operations(api: Served) -> list[str]:
    """Every operation of the OpenAPI document."""
    return [
        f"{method.upper()} {path}" for path, item in api.app.openapi()["paths"].items() for method in item
    ]


async def test_no_caller_gets_in_where_they_do_not_belong(settings: Settings) -> None:
    async with served(settings) as api:
        known, described = set(ROWS), set(operations(api))
        assert described - known == set(), "routes without a row: say in ROWS what each needs"
        assert known - described == set(), "rows without a route"
        matrix = Matrix(api)
        await matrix.prepare()
        for operation in ROWS:
            await matrix.walk(operation)
    assert matrix.faults == []
    assert matrix.requests > 1000

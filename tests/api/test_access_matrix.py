"""Access matrix: every route × every kind of caller × own, public, unlisted, foreign, absent and smuggled resources.

A new route, described or not, needs one line in `ROWS`; without it, the first test fails.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.routing import BaseRoute, Mount, Route
from tests.support.rows import Rows, add_user
from tests.support.served import Served, served
from tests.support.world import PASSWORD

from aerotask.api.app import create_app
from aerotask.config import Settings
from aerotask.domain.access import Access, Caller, LinkScope, Membership, Visibility
from aerotask.domain.ids import DatasetId, LinkId, OrgId, UploadId, UserId, new_id
from aerotask.services.datasets.contents import put_content
from aerotask.services.datasets.links import digest_of
from aerotask.store.accounts import api_keys, users
from aerotask.store.datasets import datasets, links, orgs, uploads
from aerotask.store.datasets.entries import EntryContent
from aerotask.store.tasks import submit

Found = TypeVar("Found")


class Needs(Enum):
    """Permission that a route needs."""

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
    """Permission to manage the task: its submitter and administrators of the organization."""
    LINK_ADDRESS = "link"
    """A valid link in the address, which needs no caller."""
    OWN_LINK = "own link"
    """Read, and the caller made the link or is an administrator of the organization."""
    UPLOAD = "upload"
    """Write, and the caller created the upload or is an administrator of the organization."""


@dataclass(frozen=True)
class Row:
    """The permission that a route needs, a request that only permissions can make fail, and its status."""

    needs: Needs
    answers: int | None = None
    """The status for permitted callers; any success if None."""
    request: Mapping[str, Any] = field(default_factory=dict)


def row(needs: Needs, answers: int | None = None, **request: Any) -> Row:
    """`request` are httpx's own arguments: json, data, files, params, content, headers."""
    return Row(needs, answers, request)


D, T = "/orgs/{orgSlug}/ds/{dsSlug}", "/orgs/{orgSlug}/ds/{dsSlug}/tasks/{taskId}"
L = "/links/{link}"
SIGN_IN = {"username": "admin", "password": PASSWORD}
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
    f"HEAD {D}/uploads/{{uploadId}}": row(Needs.UPLOAD, headers=TUS),
    f"PATCH {D}/uploads/{{uploadId}}": row(Needs.UPLOAD, headers=PART, content=b"x"),
    f"POST {D}/uploads/{{uploadId}}": row(
        Needs.UPLOAD, headers={**PART, "X-HTTP-Method-Override": "PATCH"}, content=b"x"
    ),
    f"DELETE {D}/uploads/{{uploadId}}": row(Needs.UPLOAD, headers=TUS),
    f"GET {D}/build/{{path}}": row(Needs.READ),
    f"GET {D}/build/{{path}}/{{kind}}": row(Needs.READ, 404),
    f"GET {D}/build/{{path}}/{{kind}}/{{fileName}}": row(Needs.READ, 404),
    f"GET {D}/thumb": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"GET {D}/tilejson.json": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"GET {D}/tiles/{{z}}/{{x}}/{{y}}.png": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"GET {D}/tiles/{{z}}/{{x}}/{{y}}@2x.png": row(Needs.READ, 400, params={"path": "a.txt"}),
    f"POST {D}/view-tokens": row(Needs.READ_AS_USER, json={}),
    f"POST {D}/links": row(Needs.READ_AS_USER, json={"path": "a.txt"}),
    f"GET {D}/links": row(Needs.READ_AS_USER),
    f"DELETE {D}/links/{{linkId}}": row(Needs.OWN_LINK),
    f"POST {D}/tools/{{toolId}}/validate": row(Needs.READ, json=ALIGN),
    f"POST {D}/tools/{{toolId}}/preview": row(Needs.READ, 400, json=ALIGN),
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
    f"GET {T}/result/{{fileName}}": row(Needs.READ, 409),
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
    "GET /tasks/{taskId}": row(Needs.READ),
    "GET /sys/tasks": row(Needs.ADMINISTRATOR),
    "GET /sys/audit": row(Needs.ADMINISTRATOR),
    "GET /sys/features": row(Needs.NOTHING),
    "GET /healthz": row(Needs.NOTHING),
    "GET /readyz": row(Needs.NOTHING, 503),
    "GET /metrics": row(Needs.NOTHING),
    # Not in the OpenAPI document: HEAD routes and pages.
    f"HEAD {D}/obj/{{path}}": row(Needs.READ),
    f"HEAD {D}/download": row(Needs.READ, params={"path": "a.txt"}),
    f"HEAD {D}/build/{{path}}/{{kind}}": row(Needs.READ, 404),
    f"HEAD {D}/build/{{path}}/{{kind}}/{{fileName}}": row(Needs.READ, 404),
    f"HEAD {T}/result": row(Needs.READ, 409),
    f"HEAD {T}/result/{{fileName}}": row(Needs.READ, 409),
    f"HEAD {T}/assets/{{name}}": row(Needs.READ, 409),
    "GET /": row(Needs.NOTHING, 307),
    "GET /docs": row(Needs.NOTHING),
    "GET /docs/start.js": row(Needs.NOTHING),
    "GET /openapi.json": row(Needs.NOTHING),
    "HEAD /openapi.json": row(Needs.NOTHING),
}
ROWS |= {
    f"HEAD {place}": ROWS[f"GET {place}"]
    for place in (
        f"{D}/list",
        f"{D}/thumb",
        *(
            f"{raster}/{picture}"
            for raster in (D, T)
            for picture in ("tilejson.json", "tiles/{z}/{x}/{y}.png", "tiles/{z}/{x}/{y}@2x.png")
        ),
    )
}
LINKED = {
    "list": row(Needs.LINK_ADDRESS),
    "obj/{path}": row(Needs.LINK_ADDRESS),
    "build/{path}": row(Needs.LINK_ADDRESS),
    "build/{path}/{kind}": row(Needs.LINK_ADDRESS, 404),
    "build/{path}/{kind}/{fileName}": row(Needs.LINK_ADDRESS, 404),
    "thumb": row(Needs.LINK_ADDRESS, 400, params={"path": "a.txt"}),
    "tilejson.json": row(Needs.LINK_ADDRESS, 400, params={"path": "a.txt"}),
    "tiles/{z}/{x}/{y}.png": row(Needs.LINK_ADDRESS, 400, params={"path": "a.txt"}),
    "tiles/{z}/{x}/{y}@2x.png": row(Needs.LINK_ADDRESS, 400, params={"path": "a.txt"}),
    "tasks/{taskId}": row(Needs.LINK_ADDRESS),
    "tasks/{taskId}/log": row(Needs.LINK_ADDRESS),
    "tasks/{taskId}/events": row(Needs.LINK_ADDRESS),
    "tasks/{taskId}/output": row(Needs.LINK_ADDRESS),
    "tasks/{taskId}/result": row(Needs.LINK_ADDRESS, 409),
    "tasks/{taskId}/result/{fileName}": row(Needs.LINK_ADDRESS, 409),
    "tasks/{taskId}/assets": row(Needs.LINK_ADDRESS),
    "tasks/{taskId}/assets/{name}": row(Needs.LINK_ADDRESS, 409),
    "tasks/{taskId}/tilejson.json": row(Needs.LINK_ADDRESS, 409),
    "tasks/{taskId}/tiles/{z}/{x}/{y}.png": row(Needs.LINK_ADDRESS, 409),
    "tasks/{taskId}/tiles/{z}/{x}/{y}@2x.png": row(Needs.LINK_ADDRESS, 409),
}
ROWS |= {f"{method} {L}/{place}": needed for place, needed in LINKED.items() for method in ("GET", "HEAD")}
# Split into several tests, since one would take too long.
PARTS = 4
# Ids within a dataset.
WITHIN = ("taskId", "uploadId", "linkId")
# Static files of the product, public.
MOUNTS = {"/docs/assets"}
# Routes that change nothing although their method is POST: read-only keys may use them.
READING = {
    f"POST {D}/{path}"
    for path in (
        "search",
        "view-tokens",
        "tools/{toolId}/validate",
        "tools/{toolId}/preview",
        "align/validate",
        "align/preview",
        "merge-multispectral/validate",
        "merge-multispectral/preview",
    )
}

USERS = ("stranger", "reader", "writer", "deleter", "owner", "org-admin", "deactivated")
CALLERS = ("anonymous", *USERS, "program", "administrator")
"""`deactivated` has an earlier token, `program` a read-only key of the organization's administrator."""
# These callers can differ from the others only in these kinds of resources.
KINDS_BY_CALLER = {
    "owner": {"own", "foreign", "absent", "smuggled", "nothing"},
    "org-admin": {"own", "foreign", "absent", "smuggled", "nothing"},
    "deleter": {"own", "smuggled"},
    "deactivated": {"own", "public"},
    "program": {"own", "foreign"},
}
MEMBERS = {
    "reader": Membership.READ_ONLY,
    "writer": Membership.READ_WRITE,
    "deleter": Membership.READ_WRITE_DELETE,
    "org-admin": Membership.ADMIN,
    "deactivated": Membership.ADMIN,
}
RIGHTS: dict[str, frozenset[Access]] = {
    "reader": frozenset({Access.READ}),
    "program": frozenset({Access.READ}),
    "writer": frozenset({Access.READ, Access.WRITE}),
    "deleter": frozenset({Access.READ, Access.WRITE, Access.DELETE}),
    **dict.fromkeys(("owner", "org-admin", "administrator"), frozenset(Access)),
}


OPEN = {"public": Visibility.PUBLIC, "unlisted": Visibility.UNLISTED}


@dataclass(frozen=True)
class Resources:
    """Path parameters of a request."""

    kind: str
    names: Mapping[str, str]


class Matrix:
    """Sends every request to every route, and records responses that differ from the table."""

    def __init__(self, api: Served) -> None:
        self.api = api
        self.ids: dict[str, UserId] = {}
        self.tokens: dict[str, str] = {}
        self.orgs: dict[str, Resources] = {}
        self.content = EntryContent("", "", 0, "generic")
        self.faults: list[str] = []
        self.requests = 0

    async def prepare(self) -> None:
        platform = self.api.platform
        self.tokens["administrator"] = self.api.client.headers.pop("Authorization")
        for name in (*USERS, "outsider"):  # without passwords, since hashing is slow
            self.ids[name] = await add_user(platform.db, name)
            await self.sign_in(name)
        async with platform.db.read() as connection:
            self.ids["administrator"] = (await existing(users.find_by_name(connection, "admin"))).id
        async with platform.db.begin() as connection:
            await users.set_roles(connection, self.ids["deactivated"], is_admin=False, is_deactivated=True)
        blob = await platform.blobs.put(_content(), limit_bytes=1)
        self.content = EntryContent(blob.key, blob.sha256, blob.size_bytes, "generic")
        holder = Caller(self.ids["org-admin"], "org-admin")
        made = await platform.api_keys.create(holder, name="program", read_only=True, ttl_days=1)
        self.tokens["program"] = f"Bearer {made.key}"
        self.ids["program"] = self.ids["org-admin"]

    async def sign_in(self, name: str) -> None:
        platform = self.api.platform
        async with platform.db.read() as connection:
            user = await existing(
                users.find_by_name(connection, "admin" if name == "administrator" else name)
            )
        token = platform.login.tokens.issue(user.id, user.user_name, epoch=user.token_epoch)
        self.tokens[name] = f"Bearer {token.token}"

    async def org(self, kind: str) -> Resources:
        """An organization with all resources: the callers' own, a public or unlisted one, or a foreign one."""
        if kind not in self.orgs:
            self.orgs[kind] = await self.create_org(kind)
        return self.orgs[kind]

    async def create_org(self, kind: str) -> Resources:
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
            await datasets.add(
                connection,
                dataset_id=dataset_id,
                org_id=org_id,
                slug=slug,
                name=slug,
                tagline="",
                visibility=OPEN.get(kind, Visibility.PRIVATE),
            )
            for name, permissions in MEMBERS.items() if mine else ():
                await orgs.set_member(connection, org_id, self.ids[name], permissions)
            await users.add(
                connection, user_id=member, user_name=f"m-{slug}", email=None, hashed="", is_admin=False
            )
            await orgs.set_member(connection, org_id, member, Membership.READ_ONLY)
            await submit.add(connection, task, actor="tests")
            await put_content(connection, dataset_id, "a.txt", self.content)
            upload = await uploads.add(
                connection,
                upload_id=UploadId(new_id()),
                dataset_id=dataset_id,
                user_id=self.ids["writer" if mine else "outsider"],
                path="b.txt",
                size_bytes=1,
                client_metadata="",
                ttl_s=3600,
            )
            own_link = await self.link(connection, dataset_id, self.ids["writer" if mine else "outsider"])
            open_link = await self.link(connection, dataset_id, member)
        names = {
            "orgSlug": slug,
            "dsSlug": slug,
            "taskId": str(task.id),
            "userName": f"m-{slug}",
            "keyId": str(uuid4()),
            "uploadId": str(upload.id),
            "path": "a.txt",
            "name": "absent.tif",
            "fileName": "a.cog.tif",
            "linkId": str(own_link[0]),
            "link": open_link[1],
            "kind": "cog",
            "toolId": "align-raster",
        }
        return Resources(kind, names)

    async def resources(self, operation: str, caller: str) -> list[Resources]:
        """All resources that the operation can be requested for."""
        own, foreign = await self.org("own"), await self.org("foreign")
        if "{keyId}" in operation and caller in self.ids:
            own = Resources("own", {**own.names, "keyId": await self.key(caller)})
            foreign = Resources("foreign", {**foreign.names, "keyId": await self.key("outsider")})
        ids = {name: str(uuid4()) for name in ("keyId", "taskId", "uploadId", "linkId")}
        ids["link"] = "atl_absent"
        missing = {**own.names, "userName": "nobody-here", **ids}
        if "{" not in operation:
            return [own]
        absent = {**missing, "orgSlug": "no-such-org", "dsSlug": "no-such-ds"}
        resources = [own, await self.org("public"), foreign, Resources("absent", absent)]
        if any(f"{{{name}}}" in operation for name in WITHIN):
            # Another dataset's task, upload or link, within the URL of a dataset that the caller may read.
            smuggled = {**own.names, **{name: foreign.names[name] for name in WITHIN}}
            resources += [Resources("smuggled", smuggled)] if "{dsSlug}" in operation else []
            resources.append(Resources("nothing", missing))
        if "{dsSlug}" in operation and caller in {"anonymous", "stranger"}:
            resources.append(await self.org("unlisted"))
        return [each for each in resources if each.kind in KINDS_BY_CALLER.get(caller, {each.kind})]

    async def link(
        self, connection: AsyncConnection, dataset_id: DatasetId, user_id: UserId
    ) -> tuple[LinkId, str]:
        """The id and token of a new link of the user to the whole dataset."""
        link_id, token = LinkId(new_id()), f"atl_{uuid4().hex}"
        await links.add(
            connection,
            link_id=link_id,
            digest=digest_of(token),
            dataset_id=dataset_id,
            maker=Caller(user_id, "-"),
            task_id=None,
            entry_id=None,
            path="",
            scope=LinkScope.DOWNLOAD,
            note="",
            ttl_s=3600,
        )
        return link_id, token

    async def key(self, owner: str) -> str:
        """The id of a new key of the owner."""
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

    async def send(self, operation: str, caller: str, resources: Resources) -> httpx.Response:
        method, _, path = operation.partition(" ")
        address = re.sub(r"\{(\w+)\}", lambda found: resources.names.get(found[1], "0"), path)
        request = {**ROWS[operation].request}
        if "json" in request:
            fresh = f"fresh-{uuid4().hex[:12]}"
            request["json"] = {k: fresh if v == "{fresh}" else v for k, v in request["json"].items()}
        headers = {**request.pop("headers", {})}
        if caller in self.tokens:
            headers["Authorization"] = self.tokens[caller]
        built = self.api.client.build_request(method, address, headers=headers, **request)
        answer = await self.api.client.send(built, stream=True)
        if "text/event-stream" not in answer.headers.get("content-type", ""):  # endless
            await answer.aread()
        await answer.aclose()
        if method != "GET" and answer.is_success:  # recreate what the request changed
            self.orgs.pop(resources.kind, None)
        return answer

    async def check(self, operation: str) -> None:
        """Send all requests of one operation."""
        for caller in CALLERS:
            hidden: set[tuple[int, str]] = set()
            for resources in await self.resources(operation, caller):
                self.requests += 1
                answer = await self.send(operation, caller, resources)
                expected = expectation(ROWS[operation].needs, caller, resources.kind, operation)
                if not fits(answer.status_code, expected, ROWS[operation].answers):
                    self.faults.append(
                        f"{operation} as {caller} on {resources.kind}: {answer.status_code}, not {expected}"
                    )
                if resources.kind in {"foreign", "absent"} and caller != "administrator" and expected:
                    hidden.add((answer.status_code, without_names(answer.text, resources)))
            if len(hidden) > 1:
                self.faults.append(f"{operation} as {caller}: foreign and absent differ: {hidden}")
            if operation.endswith("/sign-out") and caller in {*USERS, "administrator"} - {"deactivated"}:
                await self.sign_in(caller)


def expectation(needs: Needs, caller: str, kind: str, operation: str) -> int | None:
    """The status of a refusal; None if the caller is permitted."""
    if needs is Needs.NOTHING:
        return None
    if caller == "program" and not only_reads(operation):
        return 403
    if needs is Needs.LINK_ADDRESS:
        return 404 if kind in {"absent", "smuggled", "nothing"} else None
    is_anonymous = caller in {"anonymous", "deactivated"}
    if needs in {Needs.SIGNED_IN, Needs.OWN_KEY}:
        if is_anonymous:
            return 401
        return 404 if needs is Needs.OWN_KEY and kind != "own" else None
    if needs is Needs.ADMINISTRATOR:
        if caller != "administrator":
            return 401 if is_anonymous else 403
        return 404 if kind == "absent" and "{userName}" in operation else None
    rights = rights_on(caller, kind)
    if Access.READ not in rights:
        return 401 if is_anonymous else 404
    return refusal(needs, caller, kind, rights)


def only_reads(operation: str) -> bool:
    """Whether a read-only key suffices: not for changes, nor for secrets with more permissions."""
    reading = operation in READING or operation.split(maxsplit=1)[0] in {"GET", "HEAD"}
    return reading and operation != "GET /users/me/callback-secret"


def rights_on(caller: str, kind: str) -> frozenset[Access]:
    """The caller's permissions on resources of that kind."""
    if kind == "absent" or (kind == "foreign" and caller != "administrator"):
        return frozenset()
    return RIGHTS.get(caller, frozenset()) | ({Access.READ} if kind in OPEN else frozenset())


def refusal(needs: Needs, caller: str, kind: str, rights: frozenset[Access]) -> int | None:
    """As `expectation`, for resources in a dataset or organization that the caller may see."""
    # Invalid credentials get 401, not 403.
    forbidden = 401 if caller == "deactivated" else 403
    theirs = Access.ADMIN in rights or caller == "writer"
    if needs is Needs.OWN_LINK:
        if caller in {"anonymous", "deactivated"}:
            return 401
        return None if theirs and kind not in {"smuggled", "nothing"} else 404
    if needs is Needs.UPLOAD:
        if Access.WRITE not in rights:
            return forbidden
        return None if theirs and kind not in {"smuggled", "nothing"} else 404
    if kind in {"smuggled", "nothing"}:
        return 404
    if needs is Needs.MEMBER:
        return None if RIGHTS.get(caller) else 403
    if needs is Needs.READ_AS_USER:
        return 401 if caller in {"anonymous", "deactivated"} else None
    if needs is Needs.TASK:
        return None if theirs and caller != "program" else 403
    return None if needs.value in rights else forbidden


def fits(status: int, expected: int | None, answers: int | None) -> bool:
    """Whether the status is the expected refusal, or that of a permitted caller."""
    if expected is not None:
        return status == expected
    return status == answers if answers else 200 <= status < 300


def without_names(text: str, resources: Resources) -> str:
    """The response without the names in the request; remaining differences would disclose the resource."""
    for name, value in resources.names.items():
        text = text.replace(value, f"<{name.removesuffix('Slug')}>") if name != "path" else text
    return text.replace("<org>/<org>", "<org>/<ds>")


async def _content() -> AsyncIterator[bytes]:
    yield b"a"


def described(app: FastAPI) -> set[str]:
    """All operations of the OpenAPI document."""
    paths = app.openapi()["paths"].items()
    return {f"{method.upper()} {path}" for path, item in paths for method in item}


def routes_in(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes, including those of included routers."""
    for route in routes:
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else routes_in(included.routes)


def routed(app: FastAPI) -> set[str]:
    """All operations that the app has a route for, described or not."""
    routes = [route for route in routes_in(app.routes) if isinstance(route, Route)]
    return {f"{method} {route.path_format}" for route in routes for method in route.methods or ()}


def elsewhere(app: FastAPI) -> set[str]:
    """Mounts and other routes that are not API routes."""
    others = [route for route in routes_in(app.routes) if not isinstance(route, Route)]
    return {route.path if isinstance(route, Mount) else repr(route) for route in others}


def test_every_route_has_a_row(settings: Settings) -> None:
    app = create_app(settings)
    assert described(app) <= routed(app)
    assert routed(app) - set(ROWS) == set(), "routes without a row: say in ROWS what each needs"
    assert set(ROWS) - routed(app) == set(), "rows without a route"
    assert elsewhere(app) == MOUNTS


@pytest.mark.parametrize("part", range(PARTS))
async def test_every_caller_gets_exactly_the_access_of_the_table(settings: Settings, part: int) -> None:
    async with served(settings) as api:
        matrix = Matrix(api)
        await matrix.prepare()
        for operation in [*ROWS][part::PARTS]:
            await matrix.check(operation)
    assert matrix.faults == []
    assert matrix.requests > 300


async def test_lists_contain_nothing_that_their_reader_may_not_see(settings: Settings) -> None:
    async with served(settings) as api:
        matrix = Matrix(api)
        await matrix.prepare()
        kinds = ("own", "public", "unlisted", "foreign")
        slugs = {(await matrix.org(kind)).names["orgSlug"]: kind for kind in kinds}
        public = next(slug for slug, kind in slugs.items() if kind == "public")
        async with api.platform.db.begin() as connection:
            org = await existing(orgs.find(connection, public, seen_by=None))
            for slug, visibility in (("hidden", Visibility.PRIVATE), ("quiet", Visibility.UNLISTED)):
                await datasets.add(
                    connection,
                    dataset_id=DatasetId(new_id()),
                    org_id=org.id,
                    slug=slug,
                    name=slug,
                    tagline="",
                    visibility=visibility,
                )

        async def list_slugs(path: str, caller: str, member: str = "slug") -> list[str]:
            headers = {"Authorization": matrix.tokens[caller]} if caller in matrix.tokens else {}
            answer = (await api.client.get(path, headers=headers)).raise_for_status().json()
            items = answer["results"] if isinstance(answer, dict) else answer
            return sorted(slugs.get(item[member], item[member]) for item in items)

        members = ["own", "public", "unlisted"]
        orgs_of = {"anonymous": ["public"], "stranger": ["public"], "deactivated": ["public"]}
        orgs_of |= dict.fromkeys(("reader", "program", "owner", "org-admin"), members)
        orgs_of |= {"outsider": ["foreign", "public"], "administrator": ["acme", "foreign", *members]}
        assert {caller: await list_slugs("/orgs", caller) for caller in orgs_of} == orgs_of
        datasets_of = {caller: ["public"] for caller in ("anonymous", "stranger", "deactivated", "outsider")}
        datasets_of |= {name: ["hidden", "public", "quiet"] for name in ("reader", "owner", "administrator")}
        here = f"/orgs/{public}/ds"
        assert {caller: await list_slugs(here, caller) for caller in datasets_of} == datasets_of
        tasks_of: dict[str, list[str]] = {
            "stranger": [],
            "owner": [],
            "writer": members,
            "outsider": ["foreign"],
        }
        assert {caller: await list_slugs("/tasks", caller, "dsSlug") for caller in tasks_of} == tasks_of


async def existing(found: Awaitable[Found | None]) -> Found:
    """The row, which must exist."""
    row = await found
    assert row is not None
    return row

"""Path traversal attacks on every path parameter of the OpenAPI document: refused, and nothing is written."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tests.support.attacks import PATH_ATTACKS
from tests.support.served import served

from aerotask.config import Settings

D = "/orgs/{orgSlug}/ds/{dsSlug}"
# Names of body fields that contain a path.
FIELDS = {"path", "paths", "source", "dest", "sourcePath", "referencePath", "outputPath", "folder"}
NAMES = {
    "orgSlug": "acme",
    "dsSlug": "acme",
    "kind": "cog",
    "toolId": "align-raster",
    "z": "0",
    "x": "0",
    "y": "0",
    "fileName": "a.cog.tif",
}

MakeRequest = Callable[[str], dict[str, Any]]


def json_of(field: str, **others: object) -> MakeRequest:
    """A request whose body contains the attack, alone or in a list, among valid members."""

    def request(attack: str) -> dict[str, Any]:
        return {"json": {**others, field: [attack, "a.txt"] if field == "paths" else attack}}

    return request


def announced(attack: str) -> dict[str, Any]:
    encoded = base64.b64encode(attack.encode()).decode()
    return {"headers": {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Metadata": f"path {encoded}"}}


ALIGN = {"sourcePath": "a.txt", "referencePath": "b.txt", "outputPath": "c.tif"}
MERGE = {"paths": ["a.txt", "b.txt"], "outputPath": "c.tif"}
SOURCES = {"source": "a.txt", "dest": "b.txt"}
SUBMIT = {"toolId": "raster-export"}
# Operations whose description doesn't say which part is a path, or what else the body needs.
BODIES: Mapping[str, list[MakeRequest]] = {
    f"POST {D}/uploads": [announced],
    f"POST {D}/obj": [lambda attack: {"files": {"path": (None, attack.encode()), "file": ("x", b"x")}}],
    f"PUT {D}/obj": [json_of(field, **SOURCES) for field in SOURCES],
    f"POST {D}/obj/copy": [json_of(field, **SOURCES) for field in SOURCES],
    f"POST {D}/search": [json_of("path")],
    f"POST {D}/links": [json_of("path"), json_of("folder")],
    f"POST {D}/tasks": [
        json_of("path", **SUBMIT),
        lambda attack: {"json": {**SUBMIT, "params": {"path": attack}}},
    ],
    f"POST {D}/tools/{{toolId}}/preview": [json_of(field, **ALIGN) for field in ALIGN],
    f"POST {D}/tools/{{toolId}}/validate": [json_of(field, **ALIGN) for field in ALIGN],
    f"POST {D}/align/preview": [json_of(field, **ALIGN) for field in ALIGN],
    f"POST {D}/align/validate": [json_of(field, **ALIGN) for field in ALIGN],
    f"POST {D}/merge-multispectral/preview": [json_of(field, **MERGE) for field in MERGE],
    f"POST {D}/merge-multispectral/validate": [json_of(field, **MERGE) for field in MERGE],
}


def in_address(attack: str) -> dict[str, Any]:
    return {"path": "".join(f"%{byte:02x}" for byte in attack.encode())}


@dataclass(frozen=True)
class Place:
    """An operation, and the place of a path in its request."""

    operation: str
    where: str
    make_request: MakeRequest
    names: Mapping[str, str]

    async def send(self, client: httpx.AsyncClient, attack: str) -> httpx.Response:
        """Sends the request with the attack."""
        method, _, template = self.operation.partition(" ")
        request = dict(self.make_request(attack))
        names = {**NAMES, **self.names, "path": request.pop("path", "a.txt")}
        address = re.sub(r"\{(\w+)\}", lambda found: names[found[1]], template)
        return await client.request(method, address, **request)


def places(document: Mapping[str, Any], **names: str) -> Iterator[Place]:
    """All places of all operations that take a path: in the URL path, the query or the body."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", ()):
                if parameter["name"] not in FIELDS:
                    continue
                if parameter["in"] == "path":
                    yield Place(name, "address", in_address, names)
                else:
                    yield Place(name, "query", lambda attack: {"params": {"path": attack}}, names)
            for make_request in BODIES.get(name, ()):
                yield Place(name, "body", make_request, names)


def takes_paths_in_its_body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> bool:
    """Whether a body has a field that is named like a path, or contains tool params."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = media.get("schema", {})
        named = schema.get("$ref", "").rpartition("/")[2]
        fields = document["components"]["schemas"].get(named, schema)
        if FIELDS & fields.get("properties", {}).keys() or fields.get("additionalProperties") is True:
            return True
    return False


def refused(place: Place, answer: httpx.Response) -> bool:
    """Whether the response is 400; dry runs report errors with 200."""
    if answer.status_code == 200 and place.operation.endswith("/validate"):
        dry_run = answer.json()
        return not dry_run["ok"] and not dry_run["summary"]
    return answer.status_code == 400


async def test_every_path_that_leads_out_is_refused_at_every_operation(settings: Settings) -> None:
    async with served(settings) as api:
        document = api.app.openapi()
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if takes_paths_in_its_body(document, operation):
                    assert f"{method.upper()} {path}" in BODIES, "say how a path gets into its body"
        made = await api.client.post("/orgs/acme/ds/acme/links", json={"folder": ""})
        tried = [*places(document, link=made.json()["baseUrl"].split("/")[-2])]
        assert len(tried) > 25
        faults = []
        for place in tried:
            for attack in PATH_ATTACKS:
                answer = await place.send(api.client, attack)
                if not refused(place, answer):
                    faults.append((place.operation, place.where, attack[:40], answer.status_code))
        assert faults == []
        assert (await api.client.get("/orgs/acme/ds/acme/list", params={"recursive": True})).json() == []
        assert (await api.client.get("/orgs/acme/ds/acme/tasks")).json() == []

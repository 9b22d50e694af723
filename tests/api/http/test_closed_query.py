"""Query parameters that a route doesn't declare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from starlette.routing import BaseRoute, Mount, Route
from tests.support.served import served

from aerotask.api.app import create_app
from aerotask.config import Settings

HERE = "/orgs/acme/ds/acme"
ABSENT = "01234567-89ab-7cde-8f01-23456789abcd"
TASK = f"{HERE}/tasks/{ABSENT}"
VALUES = {"orgSlug": "acme", "dsSlug": "acme", "taskId": ABSENT, "kind": "cog", "toolId": "build"}
TUS = {"Tus-Resumable": "1.0.0"}

# A request of each kind of route, the parameter that it misspells, and the rest of the error.
CASES: list[tuple[str, str, str, str]] = [
    ("POST", f"{HERE}/tasks/clear?tool=build", "tool", " (did you mean 'toolId'?); this route has toolId."),
    ("POST", f"{HERE}/tasks/clear?toolId=a&x=", "x", "; this route has toolId."),
    ("GET", f"{TASK}?Wait=30", "Wait", " (did you mean 'wait'?); this route has wait."),
    ("GET", f"{TASK}/log?limit=1", "limit", "; this route has since, take, token."),
    ("GET", f"{TASK}/events?sinse=1", "sinse", " (did you mean 'since'?); this route has since, token."),
    ("GET", f"{TASK}/result?download=1", "download", "; this route has token."),
    ("POST", f"{HERE}/align/preview?width=1", "width", "; this route has size."),
    ("DELETE", f"{HERE}/obj/a.tif?recursive=true", "recursive", "; this route has none."),
    ("GET", f"{HERE}/download?paths=a.tif", "paths", " (did you mean 'path'?); this route has path."),
    ("PATCH", f"{HERE}/uploads/{ABSENT}?offset=1", "offset", "; this route has none."),
    (
        "GET",
        f"{HERE}/tasks/{ABSENT}/tilejson.json?colour_map=magma",
        "colour_map",
        " (did you mean 'colormap'?); this route has bandFilter, bands, colormap, formula, preset, rescale, token, unscale.",
    ),
    ("GET", "/sys/tasks?org_slug=a", "org_slug", " (did you mean 'orgSlug'?); "),
    ("GET", "/healthz?verbose", "verbose", "; this route has none."),
    ("GET", "/openapi.json?v=1", "v", "; this route has none."),
    ("GET", "/docs?theme=dark", "theme", "; this route has none."),
    ("GET", "/docs/assets/swagger-ui.css?v=1", "v", "; this route has none."),
]


def routes_in(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes, including those of included routers."""
    for route in routes:
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else routes_in(included.routes)


def requests(settings: Settings) -> Iterator[tuple[str, str]]:
    """A method and an address for every route of the app, described or not."""
    for route in routes_in(create_app(settings).routes):
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/swagger-ui.css"
        else:
            assert isinstance(route, Route)
            address = re.sub(r"\{(\w+)\}", lambda found: VALUES.get(found[1], "0"), route.path_format)
            yield from ((method, address) for method in route.methods or ())


async def test_every_route_refuses_unknown_query_parameters(settings: Settings) -> None:
    answers = {}
    async with served(settings) as api:
        for method, address in requests(settings):
            answer = await api.client.request(method, f"{address}?nonsense=1", headers=TUS)
            # Responses to HEAD have no body.
            code = "unknown-parameter" if method == "HEAD" else answer.json().get("code")
            answers[f"{method} {address}"] = (answer.status_code, code)
    assert {name: it for name, it in answers.items() if it != (400, "unknown-parameter")} == {}
    assert len(answers) > 90


async def test_the_error_names_the_parameter_the_nearest_and_the_known_ones(settings: Settings) -> None:
    async with served(settings) as api:
        for method, address, name, rest in CASES:
            answer = await api.client.request(method, address, headers=TUS)
            problem = answer.json()
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.status_code, problem["code"], problem["noRetry"]) == (
                *(400, "unknown-parameter"),
                True,
            )
            assert problem["detail"].startswith(f"There is no query parameter '{name}'{rest}"), address
            assert [error["pointer"] for error in problem["errors"]] == [f"/query/{name}"]


async def test_nothing_happens_before_the_query_is_checked(settings: Settings) -> None:
    async with served(settings) as api:
        await api.rows.task()
        refused = [
            await api.client.post(f"{HERE}/tasks?dry=1", content=b"not even JSON"),
            await api.client.delete(f"{HERE}?force=1"),
            await api.client.post("/users/authenticate?x=1", json={"username": "admin", "password": "wrong"}),
        ]
        assert [answer.json()["code"] for answer in refused] == ["unknown-parameter"] * 3
        assert (await api.client.get(f"{HERE}/tasks?&skip=0&")).json()[0]["state"] == "Created"


async def test_an_upload_answers_in_its_protocol_also_then(settings: Settings) -> None:
    async with served(settings) as api:
        answer = await api.client.post(f"{HERE}/uploads?path=a", headers=TUS)
        assert (answer.status_code, answer.headers["tus-resumable"]) == (400, "1.0.0")


async def test_odd_names_are_quoted_and_long_lists_cut(settings: Settings) -> None:
    names = "&".join(f"{letter}%0A%E2%80%AE" for letter in "abcdefghijklmnopqrstuvwxyz")
    async with served(settings) as api:
        problem = (await api.client.get(f"/healthz?{names}")).json()
        assert problem["detail"] == "There is no query parameter 'a\\u000a\\u202e'; this route has none."
        assert len(problem["errors"]) == 10
        # Names are compared and shown only in part.
        problem = (await api.client.get(f"{HERE}/list?{'x' * 9000}=1")).json()
        assert len(problem["detail"]) < 400

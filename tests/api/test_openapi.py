"""The OpenAPI document, and the imports of the API."""

import subprocess
import sys
from typing import Any

import pytest

from aerotask.api.app import create_app
from aerotask.api.deps import READING_ENDS
from aerotask.config import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = Settings.model_validate(
        {
            "database_url": "postgresql://x/y",
            "redis_url": "redis://x",
            "storage_url": "file:///nowhere",
            "secret_key": "x" * 32,
        }
    )
    return create_app(settings).openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_of_the_main_job_is_described(document: dict[str, Any]) -> None:
    described = {f"{method.upper()} {path}" for path, method, _ in operations(document)}
    here = "/orgs/{orgSlug}/ds/{dsSlug}"
    assert described >= {
        "POST /users/authenticate",
        "POST /users/authenticate/refresh",
        "GET /users/me",
        "GET /orgs",
        "POST /orgs",
        "POST /orgs/{orgSlug}/members",
        f"POST {here}/obj",
        f"PUT {here}/obj/{{path}}",
        f"GET {here}/obj/{{path}}",
        f"DELETE {here}/obj/{{path}}",
        f"GET {here}/build/{{path}}",
        f"GET {here}/build/{{path}}/{{kind}}",
        f"GET {here}/list",
        f"PUT {here}/obj",
        f"POST {here}/obj/copy",
        f"POST {here}/search",
        f"POST {here}/rename",
        f"OPTIONS {here}/uploads",
        f"POST {here}/uploads",
        f"HEAD {here}/uploads/{{uploadId}}",
        f"PATCH {here}/uploads/{{uploadId}}",
        f"DELETE {here}/uploads/{{uploadId}}",
        "GET /orgs/{orgSlug}/usage",
        f"GET {here}/tasks/tools",
        f"POST {here}/tools/{{toolId}}/validate",
        f"POST {here}/tools/{{toolId}}/preview",
        f"POST {here}/align/validate",
        f"POST {here}/align/preview",
        f"POST {here}/merge-multispectral/validate",
        f"POST {here}/merge-multispectral/preview",
        f"POST {here}/tasks",
        f"GET {here}/tasks",
        f"GET {here}/tasks/{{taskId}}",
        f"GET {here}/tasks/{{taskId}}/log",
        f"GET {here}/tasks/{{taskId}}/events",
        f"GET {here}/tasks/{{taskId}}/output",
        f"GET {here}/tasks/{{taskId}}/result",
        f"DELETE {here}/tasks/{{taskId}}",
        f"GET {here}/tasks/{{taskId}}/callbacks",
        "GET /users/me/callback-secret",
        f"POST {here}/tasks/clear",
        "GET /sys/tasks",
        "GET /sys/features",
        "GET /healthz",
        "GET /readyz",
    }


def test_tags_waits_events_and_plain_logs_are_described(document: dict[str, Any]) -> None:
    task = "/orgs/{orgSlug}/ds/{dsSlug}/tasks/{taskId}"
    status, events, output = (
        document["paths"][f"{task}{part}"]["get"] for part in ("", "/events", "/output")
    )
    assert set(status["responses"]) == {"200", "304", "400", "401", "404", "414", "503"}
    wait = next(parameter for parameter in status["parameters"] if parameter["name"] == "wait")
    assert (wait["schema"]["minimum"], wait["schema"]["maximum"]) == (0, 30)
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert {parameter["name"] for parameter in events["parameters"]} >= {"last-event-id", "since"}
    assert list(output["responses"]["200"]["content"]) == ["text/plain"]


def test_lists_and_the_headers_of_uploads_are_described(document: dict[str, Any]) -> None:
    here = "/orgs/{orgSlug}/ds/{dsSlug}"
    listed = document["paths"][f"{here}/list"]["get"]["responses"]["200"]["content"]["application/json"]
    assert listed["schema"]["items"] == {"$ref": "#/components/schemas/EntryResponse"}
    creates = document["paths"][f"{here}/uploads"]["post"]
    assert {p["name"] for p in creates["parameters"]} >= {"Tus-Resumable", "Upload-Length", "Upload-Metadata"}
    assert set(creates["responses"]["201"]["headers"]) == {
        "Tus-Resumable",
        "Location",
        "Upload-Offset",
        "Upload-Expires",
    }
    sends = document["paths"][f"{here}/uploads/{{uploadId}}"]["patch"]
    assert list(sends["requestBody"]["content"]) == ["application/offset+octet-stream"]
    assert set(sends["responses"]) >= {"204", "404", "409", "412", "413", "415", "423"}


def test_only_a_reused_idempotency_key_gets_422(document: dict[str, Any]) -> None:
    with_422 = [path for path, _, operation in operations(document) if "422" in operation["responses"]]
    assert with_422 == ["/orgs/{orgSlug}/ds/{dsSlug}/tasks"]


def test_every_error_is_described_as_a_problem(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and path != "/readyz":
                assert list(answer["content"]) == ["application/problem+json"], (path, method, status)


def test_every_operation_has_a_unique_id_and_a_description(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert all(operation["description"].endswith(".") for _, _, operation in operations(document))


def test_every_route_that_needs_a_caller_says_so(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        if "401" in operation["responses"] and path != "/users/authenticate":
            assert operation["security"] == [{"HTTPBearer": []}], path


def test_the_api_imports_neither_gdal_nor_worker_code() -> None:
    """The API process must never open users' files with GDAL, which not importing it guarantees."""
    program = (
        "import sys, aerotask.api.app, aerotask.registry; aerotask.registry.load_registry();"
        "print([name for name in ('rasterio', 'aerotask.worker') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_these_posts_are_open_to_read_only_keys(document: dict[str, Any]) -> None:
    dataset = "/orgs/{orgSlug}/ds/{dsSlug}"
    changing = [path for path, method, _ in operations(document) if method not in {"get", "head", "options"}]
    assert sorted({path for path in changing if path.endswith(READING_ENDS)}) == [
        f"{dataset}/align/preview",
        f"{dataset}/align/validate",
        f"{dataset}/merge-multispectral/preview",
        f"{dataset}/merge-multispectral/validate",
        f"{dataset}/search",
        f"{dataset}/tools/{{toolId}}/preview",
        f"{dataset}/tools/{{toolId}}/validate",
        f"{dataset}/view-tokens",
    ]

"""Responses that pages of other origins may read, and their exposed headers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.support.served import served
from tests.support.world import Dataset, World
from tests.tiles.maps import halves, on_tile

from aerotask.api.http.cross_origin import EXPOSED
from aerotask.config import Settings

ASKED_FOR = {"Content-Range", "Content-Length", "ETag", "Accept-Ranges", "Content-Encoding", "Last-Modified"}
PART = {"Range": "bytes=0-1", "Origin": "https://map.example"}


def result_and_derivative(dataset: Dataset, raster: Path) -> tuple[str, str]:
    """The addresses of a result and of a derivative."""
    dataset.upload("field.tif", raster)
    assert dataset.run("build", {"path": "field.tif"})["state"] == "Succeeded"
    task = dataset.run("raster-export", {"path": "field.tif"})
    assert task["state"] == "Succeeded"
    return task["artifact"]["resultUrl"], f"{dataset.address}/build/field.tif/cog"


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return on_tile(tmp_path_factory.mktemp("raster") / "field.tif", halves(5, 5))


@pytest.mark.parametrize("visibility", ["public", "unlisted"])
def test_results_and_derivatives_that_need_no_credentials_may_be_read_from_other_origins(
    world: World, raster: Path, visibility: str
) -> None:
    dataset = world.dataset(visibility=visibility)
    anonymous = world.client()
    for address in result_and_derivative(dataset, raster):
        answer = anonymous.get(address, headers=PART)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (206, "*"), address
        assert {*answer.headers["access-control-expose-headers"].split(", ")} >= ASKED_FOR
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert "cache-control" not in answer.headers
    assert "access-control-allow-origin" not in anonymous.get(f"{dataset.address}/obj/field.tif").headers


def test_those_of_a_private_dataset_may_not(world: World, raster: Path) -> None:
    dataset = world.dataset()
    for address in result_and_derivative(dataset, raster):
        answer = dataset.client.get(address, headers=PART)
        assert answer.status_code == 206
        assert "access-control-allow-origin" not in answer.headers, address


@pytest.mark.parametrize(
    "path",
    [
        "/links/x/obj/a.tif",
        "/orgs/a/ds/b/build/a.tif/cog",
        "/orgs/a/ds/b/tasks/1/result",
        "/orgs/a/ds/b/obj/a",
    ],
)
async def test_a_browser_may_ask_for_ranges_but_not_with_credentials(settings: Settings, path: str) -> None:
    async with served(settings) as api:

        async def asks(method: str, headers: str, at: str = path) -> httpx.Response:
            sent = {
                "Origin": "https://map.example",
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": headers,
            }
            return await api.client.options(at, headers=sent)

        answer = await asks("GET", "range, if-none-match")
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
        assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
        for refused in (
            await asks("PUT", "range"),
            await asks("GET", "authorization"),
            await asks("GET", "range", "/orgs"),
            await asks("GET", "range", "/users/me"),
        ):
            assert refused.status_code == 405
            assert "access-control-allow-origin" not in refused.headers


async def test_configured_origins_may_read_the_same_headers(settings: Settings) -> None:
    configured = Settings.model_validate({**settings.model_dump(), "cors_origins": "https://map.example"})
    async with served(configured) as api:
        answer = await api.client.get("/healthz", headers={"Origin": "https://map.example"})
        assert answer.headers["access-control-allow-origin"] == "https://map.example"
        assert {*answer.headers["access-control-expose-headers"].split(", ")} >= {*EXPOSED, "Upload-Offset"}

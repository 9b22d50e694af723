"""Dry runs over HTTP."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.raster.rasters import write_raster
from tests.support.world import Dataset, World

MERGE = {"paths": ["red.tif", "nir.tif"], "outputPath": "merged.tif"}


@pytest.fixture
def dataset(world: World, tmp_path: Path) -> Dataset:
    """A public dataset with two bands that fit together, and one that doesn't."""
    made = world.dataset(visibility="public")
    for name, dtype in (("red", "uint16"), ("nir", "uint16"), ("bytes", "uint8")):
        made.upload(f"{name}.tif", write_raster(tmp_path / f"{name}.tif", np.ones((1, 40, 50), dtype)))
    return made


def dry_run(dataset: Dataset, tool: str = "merge-multispectral", **params: Any) -> httpx.Response:
    return dataset.client.post(f"{dataset.address}/{tool}/validate", json=MERGE | params)


def test_valid_params_get_a_summary(dataset: Dataset) -> None:
    answer = dry_run(dataset)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["ok"], body["errors"], body["warnings"]) == (True, [], [])
    assert body["summary"] == {
        "toolId": "merge-multispectral",
        "version": "1",
        "estimatedOutputBytes": 65536,
        "memoryBytes": 1024**3,
        "reads": ["red.tif", "nir.tif"],
        "writes": ["merged.tif"],
        "outputPath": "merged.tif",
        "bands": [
            {"path": "red.tif", "name": "red", "known": True},
            {"path": "nir.tif", "name": "nir", "known": True},
        ],
        "width": 50,
        "height": 40,
        "type": "uint16",
        "crs": "EPSG:32632",
        "nodata": None,
        "georeferenced": True,
        "mayBeShifted": False,
    }
    assert dataset.client.get(f"{dataset.address}/tasks").json() == []


def test_all_errors_are_returned_with_pointer_and_code(dataset: Dataset) -> None:
    answer = dry_run(dataset, paths=["red.tif", "bytes.tif", "absent.tif"], outputPath="red.tif")
    body = answer.json()
    assert (answer.status_code, body["ok"], body["summary"], body["warnings"]) == (200, False, {}, [])
    assert {(error["pointer"], error["code"]) for error in body["errors"]} == {
        ("/paths/1", "type-mismatch"),
        ("/paths/2", "no-such-entry"),
        ("/outputPath", "output-is-input"),
    }
    assert all(error["message"] for error in body["errors"])


def test_a_submit_gets_the_same_errors(dataset: Dataset) -> None:
    params = MERGE | {"paths": ["red.tif", "bytes.tif", "absent.tif"]}
    dry_run_errors = dry_run(dataset, paths=params["paths"]).json()["errors"]
    refused = dataset.try_submit("merge-multispectral", params)
    assert (refused.status_code, refused.json()["code"]) == (400, "bands-do-not-match")
    in_params = [error | {"pointer": f"/params{error['pointer']}"} for error in dry_run_errors]
    assert refused.json()["errors"] == in_params


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"paths": ["red.tif"]}, "/paths"),
        ({"outputPath": ".ddb/x.tif"}, "/outputPath"),
        ({"paths": ["red.tif", "nir.tif", "../x"]}, "/paths/2"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_params_that_do_not_match_the_schema_are_listed_as_errors(
    dataset: Dataset, params: dict[str, Any], pointer: str
) -> None:
    body = dry_run(dataset, **params).json()
    assert [(error["pointer"], error["code"]) for error in body["errors"]] == [(pointer, "invalid-params")]


def test_a_dry_run_needs_only_read(world: World, dataset: Dataset) -> None:
    assert dry_run(dataset.seen_by(world.client())).json()["ok"]
    assert dataset.seen_by(world.client()).try_submit("merge-multispectral", MERGE).status_code == 403
    private = world.dataset()
    assert dry_run(private.seen_by(world.client())).status_code == 401
    assert dry_run(private.seen_by(world.client(world.user()))).status_code == 404


def test_a_body_must_be_an_object(dataset: Dataset) -> None:
    answer = dataset.client.post(f"{dataset.address}/merge-multispectral/validate", json=[1])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")


def test_an_alias_answers_as_the_tools_own_address(dataset: Dataset) -> None:
    assert dry_run(dataset).json() == dry_run(dataset, "tools/merge-multispectral").json()
    align = dry_run(dataset, "align")
    assert {error["code"] for error in align.json()["errors"]} == {"invalid-params"}
    assert align.json() == dry_run(dataset, "tools/align-raster").json()


def test_every_tool_can_be_validated(dataset: Dataset) -> None:
    answer = dataset.client.post(
        f"{dataset.address}/tools/bulk-download/validate", json={"paths": ["red.tif"]}
    )
    assert answer.json()["ok"]
    assert answer.json()["summary"]["reads"] == ["red.tif"]


def test_an_unknown_tool_is_refused(dataset: Dataset) -> None:
    for action in ("validate", "preview"):
        answer = dataset.client.post(f"{dataset.address}/tools/absent/{action}", json={})
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown-tool")


def test_a_tool_without_a_preview_answers_404(dataset: Dataset) -> None:
    answer = dataset.client.post(f"{dataset.address}/tools/raster-export/preview", json={"path": "red.tif"})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-preview")

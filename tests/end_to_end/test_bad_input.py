"""Bad inputs of the main job: each gets the right status and a helpful message, and nothing is queued."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from tests.support.attacks import PATH_ATTACKS
from tests.support.world import Dataset, World


@pytest.fixture(scope="module")
def dataset(world: World, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset with one raster of two bands, red and nir."""
    path = tmp_path_factory.mktemp("rasters") / "field.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=16,
        height=16,
        count=2,
        dtype="uint16",
        crs="EPSG:32632",
        transform=from_origin(500000, 5000000, 1, 1),
    ) as made:
        made.write(np.ones((2, 16, 16), "uint16"))
        made.descriptions = ("red", "nir")
    dataset = world.dataset()
    dataset.upload("field.tif", path)
    dataset.upload("notes.txt", b"no raster")
    return dataset


def refused(dataset: Dataset, answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem of an error response, after which nothing is queued."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = dict(answer.json())
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert dataset.client.get(f"{dataset.address}/tasks").headers["x-total-count"] == "0"
    return problem


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"toolId": "raster-exprot"}, "unknown-tool", "raster-export"),
        ({"toolId": "raster-export", "version": "99"}, "unknown-version", "its versions are 1"),
        ({"toolId": "raster-export"}, "invalid-params", "/params/path"),
        ({"toolId": "raster-export", "path": "absent.tif"}, "no-such-entry", "absent.tif"),
        (
            {"toolId": "raster-export", "path": "a.tif", "params": {"path": "b.tif"}},
            "path-conflict",
            "differ",
        ),
        (
            {"toolId": "raster-export", "path": "field.tif", "params": {"colour": "x"}},
            "invalid-params",
            "/colour",
        ),
        ({"toolId": "raster-export", "path": "field.tif", "unknown": 1}, "invalid-request", "/body/unknown"),
        ({"toolId": "raster-export", "path": "notes.txt"}, None, "raster"),
        ({"toolId": "raster-export", "path": "field.tif", "params": {"formula": "NDVI?"}}, None, "formula"),
        ({"toolId": "raster-export", "path": "field.tif", "params": {"formula": "NDVX"}}, None, "NDVX"),
        ({"toolId": "raster-export", "path": "field.tif", "params": {"formula": "NDRE"}}, None, "Re"),
        ({"toolId": "raster-export", "path": "field.tif", "params": {"formula": "b3/b1"}}, None, "b3"),
        (
            {"toolId": "raster-export", "path": "field.tif", "params": {"formula": "NDVI", "colormap": "x"}},
            None,
            "colormap",
        ),
        (
            {
                "toolId": "raster-export",
                "path": "field.tif",
                "params": {"formula": "NDVI", "bandFilter": "R?"},
            },
            None,
            "?",
        ),
        ({"toolId": "raster-export", "path": "field.tif", "params": {"bands": "3"}}, None, "3"),
        (
            {"toolId": "raster-export", "path": "field.tif", "params": {"formula": "NDVI", "rescale": "1"}},
            None,
            "rescale",
        ),
        ({"toolId": 7}, "invalid-request", "/body/toolId"),
        ({}, "invalid-request", "/body/toolId"),
    ],
)
def test_an_invalid_submit_gets_a_clear_error(
    dataset: Dataset, body: dict[str, Any], code: str | None, words: str
) -> None:
    problem = refused(dataset, dataset.client.post(f"{dataset.address}/tasks", json=body), 400)
    assert code in {None, problem["code"]}
    assert words in problem["detail"]
    assert problem["noRetry"] is True


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"toolId": "nothing", "params": {"label": NaN}}', 400),
        (b'{"toolId": "nothing", "params": {"label": 1e999}}', 400),
        (b'{"toolId": "nothing", "params": {"label": "a\\u0000b"}}', 400),
        (b'{"toolId": "nothing", "params": {"label": "\\ud800"}}', 400),
        (b'{"toolId": "nothing", "params": ' + b'{"a":' * 500 + b"1" + b"}" * 501, 400),
        (b"[" * 100_000, 400),
        (b'{"toolId": "nothing"', 400),
        (b"\xff\xfe", 400),
        (b"", 400),
        (b"null", 400),
        (b'{"toolId": "' + b"x" * 10_000_000 + b'"}', 413),
    ],
)
def test_a_body_that_is_no_valid_json_is_rejected(dataset: Dataset, content: bytes, status: int) -> None:
    answer = dataset.client.post(
        f"{dataset.address}/tasks", content=content, headers={"content-type": "application/json"}
    )
    refused(dataset, answer, status)


def test_a_chunked_body_is_bounded_too(dataset: Dataset) -> None:
    answer = dataset.client.post(
        f"{dataset.address}/tasks",
        content=iter([b'{"toolId": "'] + [b"x" * 65536] * 40),
        headers={"content-type": "application/json"},
    )
    refused(dataset, answer, 413)


@pytest.mark.parametrize("attack", PATH_ATTACKS)
def test_path_traversal_is_rejected_in_every_path(dataset: Dataset, attack: str) -> None:
    client, address = dataset.client, dataset.address
    quoted = httpx.QueryParams({"x": attack})["x"]
    raw = "".join(f"%{byte:02x}" for byte in attack.encode())
    refused(dataset, dataset.try_submit("raster-export", {"path": attack}), 400)
    refused(dataset, dataset.try_submit("raster-export", path=attack), 400)
    refused(dataset, dataset.try_submit("writer", {"folder": attack}), 400)
    params = {"path": "field.tif", "formula": "NDVI", "fileName": attack}
    refused(dataset, dataset.try_submit("raster-export", params), 400)
    refused(dataset, client.get(f"{address}/list", params={"path": quoted}), 400)
    refused(dataset, client.get(f"{address}/obj/{raw}"), 400)
    refused(dataset, client.put(f"{address}/obj/{raw}", content=b"x"), 400)
    refused(dataset, client.delete(f"{address}/obj/{raw}"), 400)
    form = {"path": (None, attack.encode()), "file": ("x", b"x")}
    refused(dataset, client.post(f"{address}/obj", files=form), 400)
    assert dataset.paths() == ["field.tif", "notes.txt"]


@pytest.mark.parametrize("take_since", [("-1", 400), ("x", 400), ("99999999999999999999", 400), ("5", 404)])
def test_a_bad_cursor_is_rejected(dataset: Dataset, take_since: tuple[str, int]) -> None:
    since, status = take_since
    absent = "01a20276-4687-70c9-8a52-caac30ad7db1"
    answer = dataset.client.get(f"{dataset.address}/tasks/{absent}/log", params={"since": since})
    refused(dataset, answer, status)


def broken_rasters(folder: Path) -> dict[str, bytes]:
    good = folder / "good.tif"
    with rasterio.open(
        good,
        "w",
        driver="GTiff",
        width=512,
        height=512,
        count=2,
        dtype="uint16",
        tiled=True,
        crs="EPSG:32632",
        transform=from_origin(500000, 5000000, 1, 1),
    ) as made:
        made.write(np.ones((2, 512, 512), "uint16"))
        made.descriptions = ("red", "nir")
    whole = good.read_bytes()
    secret = folder / "secret.tif"
    secret.write_bytes(whole)
    vrt = f"""<VRTDataset rasterXSize="512" rasterYSize="512">
      <VRTRasterBand dataType="UInt16" band="1"><SimpleSource>
        <SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand>
      </SimpleSource></VRTRasterBand></VRTDataset>"""
    terapixels = folder / "tera.tif"
    with rasterio.open(
        terapixels,
        "w",
        driver="GTiff",
        width=2_000_000,
        height=2_000_000,
        count=1,
        dtype="uint8",
        tiled=True,
        blockxsize=65536,
        blockysize=65536,
        sparse_ok=True,
        bigtiff=True,
    ):
        pass
    return {
        "text": b"this is no raster\n" * 100,
        "cut-in-the-header": whole[:6],
        "vrt": vrt.encode(),
        "terapixels": terapixels.read_bytes(),
        "empty": b"",
    }


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("fault", ["text", "cut-in-the-header", "vrt", "terapixels", "empty"])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_file_that_is_no_raster_is_rejected_at_submit_or_fails_in_the_child(
    world: World, tmp_path: Path, fault: str, *, indexed: bool
) -> None:
    dataset = world.dataset()
    content = broken_rasters(tmp_path)[fault]
    dataset.upload("bad.tif", content, indexed=indexed)

    answer = dataset.try_submit("raster-export", {"formula": "b1"}, path="bad.tif")

    if indexed:
        assert answer.status_code == 400
        message = answer.json()["detail"]
    else:  # the indexer may have been faster than the submit
        assert answer.status_code in {202, 400}
        if answer.status_code == 400:
            return
        task = dataset.wait(answer.json()["taskId"])
        assert task["state"] == "Failed"
        message = task["error"]["message"]
    assert str(tmp_path) not in message
    assert len(message) > 20


def test_a_file_whose_fault_only_the_child_detects_fails_with_a_message(world: World, tmp_path: Path) -> None:
    good = tmp_path / "good.tif"
    with rasterio.open(
        good,
        "w",
        driver="GTiff",
        width=2048,
        height=2048,
        count=2,
        dtype="uint16",
        tiled=True,
        compress="deflate",
        crs="EPSG:32632",
        transform=from_origin(500000, 5000000, 1, 1),
    ) as made:
        made.write(np.random.default_rng(1).integers(1, 9, (2, 2048, 2048), "uint16"))
        made.descriptions = ("red", "nir")
    content = bytearray(good.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = b"\0" * 500
    dataset = world.dataset()
    dataset.upload("damaged.tif", bytes(content))

    task = dataset.run("raster-export", {"formula": "NDVI"}, path="damaged.tif")

    assert task["state"] == "Failed"
    assert task["error"]["code"] not in {"tool-error", "tool-crashed"}
    assert "truncated" in task["error"]["message"] or "damaged" in task["error"]["message"]
    assert task["artifact"] is None


def test_callers_without_permission_learn_nothing(world: World, dataset: Dataset) -> None:
    stranger = world.client(world.user())
    task_id = dataset.submit("nothing")
    dataset.wait(task_id)
    foreign = f"{dataset.address}/tasks/{task_id}"
    absent = f"/orgs/{dataset.org}/ds/absent/tasks/{task_id}"

    assert stranger.get(foreign).status_code == stranger.get(absent).status_code == 404
    assert stranger.get(foreign).json()["code"] == stranger.get(absent).json()["code"]
    anonymous = world.client()
    for address in (foreign, absent):
        answer = anonymous.get(address)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    elsewhere = world.dataset()
    assert elsewhere.client.get(f"{elsewhere.address}/tasks/{task_id}").status_code == 404
    dataset.client.post(f"{dataset.address}/tasks/clear").raise_for_status()


@pytest.mark.parametrize(
    "header",
    [
        "Bearer x",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.",
        "Basic YWRtaW46YWRtaW4=",
        "Bearer",
        "garbage",
    ],
)
def test_bad_credentials_are_rejected(world: World, dataset: Dataset, header: str) -> None:
    answer = world.client().get(dataset.address, headers={"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "bad-credentials")
    assert answer.headers["www-authenticate"] == "Bearer"

"""The main job over real processes: upload, submit, follow, download."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from tests.support.world import World


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """100 columns and 50 rows of float32 red and nir: NDVI rises from left to right."""
    path = tmp_path / "field.tif"
    columns = np.tile(np.arange(100, dtype="float32"), (50, 1))
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=100,
        height=50,
        count=2,
        dtype="float32",
        crs="EPSG:32632",
        transform=from_origin(500000, 5000000, 0.1, 0.1),
    ) as made:
        made.write(np.stack([200 - columns, 100 + columns]))
        made.descriptions = ("red", "nir")
    return path


def test_an_uploaded_raster_becomes_an_ndvi_map(world: World, field: Path, tmp_path: Path) -> None:
    dataset = world.dataset()
    entry = dataset.upload("maps/field.tif", field)
    assert entry["type"] == "geoRaster"
    assert entry["hash"] == hashlib.sha256(field.read_bytes()).hexdigest()
    assert (entry["properties"]["width"], entry["properties"]["height"]) == (100, 50)
    assert [band["description"] for band in entry["properties"]["bands"]] == ["red", "nir"]
    assert entry["polygonGeom"]["type"] == "Polygon"

    answer = dataset.try_submit("raster-export", {"formula": "NDVI"}, path="maps/field.tif")

    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == body["statusUrl"]
    assert body["deduplicated"] is False
    assert body["resultUrl"] == f"{body['statusUrl']}/result"
    task = dataset.wait(body["taskId"])
    assert task["state"] == "Succeeded"
    assert task["progress"]["percent"] == 100
    assert task["inputs"] == [{"path": "maps/field.tif", "hash": entry["hash"]}]
    assert task["history"][0]["to"] == "Created"
    assert task["history"][-1]["to"] == "Succeeded"
    assert task["processingTimeMs"] >= 0
    assert dataset.log(body["taskId"])[-len(task["logTail"]) :] == task["logTail"]

    result = world.admin.get(body["resultUrl"])
    assert result.status_code == 200
    assert hashlib.sha256(result.content).hexdigest() == task["artifact"]["sha256"]
    assert result.headers["etag"] == f'"{task["artifact"]["sha256"]}"'
    assert "field_export.tif" in result.headers["content-disposition"]
    exported = tmp_path / "exported.tif"
    exported.write_bytes(result.content)
    with rasterio.open(exported) as raster:
        assert (raster.count, raster.dtypes[0], raster.crs.to_epsg()) == (4, "uint8", 32632)
        # NDVI -1/3 is a third of the way along red to yellow; +1/3 (column 100) would be two thirds.
        red, green, _, alpha = raster.read()[:, 0, 0]
        assert (red > green, alpha) == (True, 255)


def test_an_identical_submit_gets_the_same_task_until_it_is_forced(world: World, field: Path) -> None:
    dataset = world.dataset()
    dataset.upload("field.tif", field)
    first = dataset.submit("raster-export", {"formula": "ndvi", "path": "field.tif"})
    dataset.wait(first)

    again = dataset.try_submit(
        "raster-export", {"path": "field.tif", "colormap": "rdylgn", "formula": "ndvi"}
    )
    forced = dataset.try_submit("raster-export", {"formula": "ndvi"}, path="field.tif", force=True)

    assert (again.status_code, again.json()["taskId"], again.json()["deduplicated"]) == (200, first, True)
    assert forced.status_code == 202
    assert forced.json()["taskId"] != first


def test_a_changed_input_makes_another_task(world: World, field: Path) -> None:
    dataset = world.dataset()
    dataset.upload("field.tif", field)
    first = dataset.submit("raster-export", {"formula": "NDVI"}, path="field.tif")
    with rasterio.open(field, "r+") as raster:
        raster.write(raster.read(1) + 1, 1)
    dataset.upload("field.tif", field)

    second = dataset.submit("raster-export", {"formula": "NDVI"}, path="field.tif")

    assert second != first
    assert dataset.wait(first)["inputs"] != dataset.wait(second)["inputs"]


def test_a_task_reads_its_input_as_it_was_at_submit(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    go = tmp_path / "go"
    dataset.upload("a.txt", b"first")
    blocker = dataset.submit("patient", {"until": str(go), "path": "a.txt"})

    dataset.upload("a.txt", b"second")
    go.touch()

    assert dataset.wait(blocker)["state"] == "Succeeded"
    assert world.admin.get(f"{dataset.address}/tasks/{blocker}/result").content == b"first"


def test_a_third_party_tool_runs_like_a_built_in_one(world: World, tmp_path: Path) -> None:
    path = tmp_path / "dem.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=20,
        height=10,
        count=1,
        dtype="float32",
        crs="EPSG:32632",
        transform=from_origin(500000, 5000000, 1, 1),
    ) as made:
        made.write(np.tile(np.arange(20, dtype="float32"), (10, 1)), 1)
    dataset = world.dataset()
    dataset.upload("dem.tif", path)

    listed = world.admin.get(f"{dataset.address}/tasks/tools").json()
    task = dataset.run("hillshade", {"azimuthDeg": 270.0}, path="dem.tif")

    assert "hillshade" in {tool["id"] for tool in listed}
    assert task["state"] == "Succeeded"
    exported = tmp_path / "shaded.tif"
    exported.write_bytes(world.admin.get(task["artifact"]["resultUrl"]).content)
    with rasterio.open(exported) as shaded:
        # A slope of 45° that rises eastwards faces a light 45° high in the west: full light.
        assert shaded.read(1)[5, 10] == 255

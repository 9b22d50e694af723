"""Index entries after an upload and a rescan, through the whole stack."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import asyncpg
import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform_bounds
from tests.metadata.photo_files import exif_block, write_photo, xmp_packet
from tests.metadata.vectors import write_points
from tests.raster.rasters import write_raster
from tests.support.world import Dataset, World, eventually
from tests.tiles.images import pixels_of

from aerotask.tiles.tile_matrix import TileIndex

PHOTO = exif_block(
    {"Make": "DJI", "Model": "FC6310"},
    {"FocalLength": 8.8},
    {"GPSLatitudeRef": "N", "GPSLatitude": (46.0, 30.0, 0.0), "GPSLongitude": (9.0, 0.0, 0.0)},
)
LOOKING_DOWN = xmp_packet({"GimbalYawDegree": "45", "GimbalPitchDegree": "-90", "RelativeAltitude": "40"})


def test_a_photo_is_indexed_with_its_camera_and_footprint(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    photo = write_photo(tmp_path / "a.jpg", size=(400, 300), exif=PHOTO, xmp=LOOKING_DOWN)
    entry = dataset.upload("photos/🛰️ a.jpg", photo)
    assert (entry["type"], entry["properties"]["model"], entry["properties"]["cameraYaw"]) == (
        "geoImage",
        "FC6310",
        45.0,
    )
    assert entry["pointGeom"] == {"type": "Point", "coordinates": [9.0, 46.5]}
    assert len(entry["polygonGeom"]["coordinates"][0]) == 5


def test_a_shapefile_is_read_once_its_sidecar_files_exist(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    path = write_points(tmp_path / "points.shp")
    alone = dataset.upload("maps/points.shp", path)
    assert alone["properties"]["indexError"]["code"] == "missing-side-file"
    dataset.upload("elsewhere.shx", path.with_suffix(".shx"))
    moved = dataset.client.put(
        f"{dataset.address}/obj", json={"source": "elsewhere.shx", "dest": "maps/points.shx"}
    )
    assert moved.status_code == 200
    eventually(lambda: dataset.entry("maps/points.shp")["type"] == "vector")
    dataset.upload("maps/points.dbf", path.with_suffix(".dbf"))
    dataset.upload("maps/points.prj", path.with_suffix(".prj"))
    eventually(lambda: dataset.entry("maps/points.shp")["properties"].get("featureCount") == 2)
    eventually(lambda: dataset.entry("maps/points.shp")["pointGeom"] is not None)
    assert dataset.entry("maps/points.shp")["type"] == "vector"


def spoil(world: World, dataset: Dataset) -> None:
    """Falsify the dataset's index, as if it had been restored wrongly."""

    async def write() -> None:
        connection = await asyncpg.connect(world.stack.environment["AEROTASK_DATABASE_URL"])
        try:
            await connection.execute(
                """
                UPDATE entries SET type = 'video', properties = '{"width": 1}',
                       point_geom = NULL, polygon_geom = NULL
                FROM datasets, organizations WHERE datasets.id = dataset_id AND organizations.id = org_id
                     AND blob_key IS NOT NULL AND organizations.slug = $1 AND datasets.slug = $2
                """,
                dataset.org,
                dataset.slug,
            )
        finally:
            await connection.close()

    asyncio.run(write())


def fill(dataset: Dataset, folder: Path) -> tuple[str, ...]:
    """A photo, a text and an invalid point cloud; their paths."""
    dataset.upload("a.jpg", write_photo(folder / "a.jpg", exif=PHOTO, xmp=LOOKING_DOWN))
    dataset.upload("notes.md", b"# Notes")
    dataset.upload("cloud.laz", b"no cloud")
    return "a.jpg", "cloud.laz", "notes.md"


def test_a_rescan_restores_the_index_of_the_uploads(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    paths = fill(dataset, tmp_path)
    before = [dataset.entry(path) for path in paths]
    spoil(world, dataset)
    spoiled = [dataset.entry(path) for path in paths]
    assert [(each["type"], each["properties"]) for each in spoiled] == [("video", {"width": 1})] * 3

    task = dataset.run("rescan-index")

    assert task["state"] == "Succeeded", task["error"]
    assert (task["result"]["total"], task["result"]["ok"]) == (3, 2)
    assert [failure["path"] for failure in task["result"]["failed"]] == ["cloud.laz"]
    assert [dataset.entry(path) for path in paths] == before
    assert before[0]["hash"] == hashlib.sha256((tmp_path / "a.jpg").read_bytes()).hexdigest()


def test_a_rescan_corrects_a_wrong_index(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    path = write_points(tmp_path / "points.shp")
    for suffix in ("shx", "dbf", "shp"):
        dataset.upload(f"points.{suffix}", path.with_suffix(f".{suffix}"))
    assert dataset.entry("points.shp")["properties"]["featureCount"] == 2
    dataset.client.delete(f"{dataset.address}/obj/points.dbf").raise_for_status()

    task = dataset.run("rescan-index", {"types": "Vector"})

    assert (task["state"], task["result"]["total"], task["result"]["ok"]) == ("Succeeded", 1, 0)
    properties = dataset.entry("points.shp")["properties"]
    assert properties["indexError"]["code"] == "missing-side-file"
    assert "featureCount" not in properties


def test_a_rescan_that_stops_on_an_error_fails_and_changes_nothing(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    paths = fill(dataset, tmp_path)
    spoil(world, dataset)
    spoiled = [dataset.entry(path) for path in paths]
    task = dataset.run("rescan-index", {"stopOnError": True})
    assert (task["state"], task["error"]["code"]) == ("Failed", "unreadable-entry")
    assert [dataset.entry(path) for path in paths] == spoiled


def test_an_unknown_type_gets_400(world: World) -> None:
    answer = world.dataset().try_submit("rescan-index", {"types": "rasters"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown-type")


def test_a_raster_follows_its_world_file_and_prj(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    pixels = np.tile(np.arange(256, dtype=np.uint8), (1, 256, 1))
    raster = write_raster(tmp_path / "field.tif", pixels, crs=None, transform=None)
    world_file = b"0.5\n0\n0\n-0.5\n600000.25\n4999999.75\n"
    prj = CRS.from_epsg(32632).to_wkt(version="WKT1_ESRI").encode()
    params = {"path": "maps/field.tif"}

    def bounds() -> list[float] | None:
        answer = dataset.client.get(f"{dataset.address}/tilejson.json", params=params)
        return answer.json()["bounds"] if answer.status_code == 200 else None

    def cogs() -> list[str]:
        answer = dataset.client.get(f"{dataset.address}/build/maps/field.tif").raise_for_status()
        return [each["kind"] for each in answer.json()]

    assert dataset.upload("maps/field.tif", raster)["type"] == "image"
    dataset.upload("maps/field.tfw", world_file)
    eventually(lambda: "warnings" in dataset.entry("maps/field.tif")["properties"])
    dataset.upload("maps/field.prj", prj)
    eventually(lambda: dataset.entry("maps/field.tif")["type"] == "geoRaster")
    expected = transform_bounds("EPSG:32632", "EPSG:4326", 600_000, 4_999_872, 600_128, 5_000_000)
    assert bounds() == pytest.approx(expected, abs=1e-9)

    west, south, east, north = expected
    template = dataset.client.get(f"{dataset.address}/tilejson.json", params=params).json()
    x = int(((west + east) / 2 + 180) / 360 * 2**18)
    y = next(y for y in range(2**18) if TileIndex(18, x, y).bounds_deg()[1] < (south + north) / 2)
    url = template["tiles"][0].format(z=18, x=x, y=y)
    before = dataset.client.get(url)
    assert before.status_code == 200

    assert dataset.run("build", path="maps/field.tif")["state"] == "Succeeded"
    assert cogs() == ["cog"]
    assert bounds() == pytest.approx(expected, abs=1e-9)
    template = dataset.client.get(f"{dataset.address}/tilejson.json", params=params).json()
    after = dataset.client.get(template["tiles"][0].format(z=18, x=x, y=y))
    np.testing.assert_array_equal(pixels_of(before.content), pixels_of(after.content))

    dataset.upload("maps/field.tfw", world_file.replace(b"600000.25", b"601000.25"))
    eventually(lambda: dataset.entry("maps/field.tif")["properties"]["geotransform"][0] == 601_000)
    assert cogs() == []  # made with the earlier world file
    moved = transform_bounds("EPSG:32632", "EPSG:4326", 601_000, 4_999_872, 601_128, 5_000_000)
    assert bounds() == pytest.approx(moved, abs=1e-9)

    exported = dataset.run("raster-export", {"path": "maps/field.tif", "bands": "1"})
    (tmp_path / "export.tif").write_bytes(dataset.client.get(exported["artifact"]["resultUrl"]).content)
    with rasterio.open(tmp_path / "export.tif") as opened:
        assert (opened.crs.to_epsg(), opened.transform.c) == (32632, 601_000)

    dataset.client.delete(f"{dataset.address}/obj/maps/field.tfw").raise_for_status()
    eventually(lambda: dataset.entry("maps/field.tif")["type"] == "image")
    assert bounds() is None

"""Index entries after an upload and a rescan, through the whole stack."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import asyncpg
from tests.metadata.photo_files import exif_block, write_photo, xmp_packet
from tests.metadata.vectors import write_points
from tests.support.world import Dataset, World, eventually

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

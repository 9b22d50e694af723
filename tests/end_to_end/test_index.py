"""What an upload and a rescan make the index say, through the whole stack."""

from __future__ import annotations

from pathlib import Path

from tests.media.photos import exif_block, write_photo, xmp_packet
from tests.media.vectors import write_points
from tests.support.world import World, eventually

PHOTO = exif_block(
    {"Make": "DJI", "Model": "FC6310"},
    {"FocalLength": 8.8},
    {"GPSLatitudeRef": "N", "GPSLatitude": (46.0, 30.0, 0.0), "GPSLongitude": (9.0, 0.0, 0.0)},
)
LOOKING_DOWN = xmp_packet({"GimbalYawDegree": "45", "GimbalPitchDegree": "-90", "RelativeAltitude": "40"})


def test_a_photo_tells_its_camera_and_the_ground_that_it_shows(world: World, tmp_path: Path) -> None:
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


def test_a_shapefile_is_read_once_its_side_files_are_there(world: World, tmp_path: Path) -> None:
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


def test_a_rescan_says_the_same_as_the_uploads_and_lists_what_it_can_not_read(
    world: World, tmp_path: Path
) -> None:
    dataset = world.dataset()
    dataset.upload("a.jpg", write_photo(tmp_path / "a.jpg", exif=PHOTO, xmp=LOOKING_DOWN))
    dataset.upload("notes.md", b"# Notes")
    dataset.upload("cloud.laz", b"no cloud")
    before = [dataset.entry(path) for path in ("a.jpg", "cloud.laz", "notes.md")]

    task = dataset.run("rescan-index")

    assert task["state"] == "Succeeded", task["error"]
    assert (task["result"]["total"], task["result"]["ok"]) == (3, 2)
    assert [failure["path"] for failure in task["result"]["failed"]] == ["cloud.laz"]
    assert [dataset.entry(path) for path in ("a.jpg", "cloud.laz", "notes.md")] == before


def test_a_rescan_corrects_what_has_become_wrong(world: World, tmp_path: Path) -> None:
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


def test_a_rescan_that_stops_on_an_error_fails(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("cloud.laz", b"no cloud")
    before = dataset.entry("cloud.laz")
    task = dataset.run("rescan-index", {"stopOnError": True})
    assert (task["state"], task["error"]["code"]) == ("Failed", "unreadable-entry")
    assert dataset.entry("cloud.laz") == before


def test_an_unknown_type_is_answered_400(world: World) -> None:
    answer = world.dataset().try_submit("rescan-index", {"types": "rasters"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown-type")

"""build over real processes: from uploads to derivatives that clients read in ranges."""

import hashlib
from pathlib import Path
from typing import Any

import laspy
import pytest
from PIL import Image
from pmtiles.reader import Reader
from rio_cogeo.cogeo import cog_validate
from tests.derivatives.clouds import hills, write_cloud
from tests.derivatives.glb.meshes import images_of, write_odm
from tests.derivatives.test_vectors import write_trees
from tests.raster.rasters import slope, write_raster
from tests.support.world import Dataset, World


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_raster(folder / "field.tif", slope((300, 260)), nodata=-1)
    write_cloud(folder / "cloud.laz", hills(2000))
    write_trees(folder / "roads.shp", driver="ESRI Shapefile")
    write_odm(folder)
    whole = (folder / "cloud.laz").read_bytes()
    (folder / "half.laz").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.tif").touch()
    return folder


@pytest.fixture(scope="module")
def built(world: World, files: Path) -> tuple[Dataset, dict[str, Any]]:
    """A dataset with all files after a build of everything, and the task's status."""
    dataset = world.dataset()
    for file in sorted(files.iterdir()):
        dataset.upload(f"flight/{file.name}", file)
    return dataset, dataset.run("build")


def derivatives(dataset: Dataset, path: str) -> dict[str, dict[str, Any]]:
    answer = dataset.client.get(f"{dataset.address}/build/{path}").raise_for_status()
    return {each["kind"]: each for each in answer.json()}


def download(dataset: Dataset, url: str, to: Path) -> Path:
    to.write_bytes(dataset.client.get(url).raise_for_status().content)
    return to


def test_a_build_of_everything_makes_what_can_be_made(
    built: tuple[Dataset, dict[str, Any]], tmp_path: Path
) -> None:
    dataset, task = built
    assert task["state"] == "Succeeded"
    outcomes = {(each["path"], each["kind"]): each["outcome"] for each in task["result"]["derivatives"]}
    assert {each for each, outcome in outcomes.items() if outcome == "built" and each[1] != "nxz"} == {
        ("flight/field.tif", "cog"),
        ("flight/cloud.laz", "copc"),
        ("flight/roads.shp", "pmtiles"),
        ("flight/roads.shp", "gpkg"),
        ("flight/odm_textured_model_geo.obj", "glb"),
    }
    assert outcomes["flight/half.laz", "copc"] == outcomes["flight/empty.tif", "cog"] == "failed"
    assert any("half.laz" in line and "Failed" in line for line in dataset.log(task["taskId"]))

    assert task["result"]["failed"] == task["warnings"] == 2
    [listed] = dataset.client.get(f"{dataset.address}/tasks").raise_for_status().json()
    assert (listed["result"]["failed"], listed["warnings"]) == (2, 2)

    cog = derivatives(dataset, "flight/field.tif")["cog"]
    assert len(cog["properties"]["bands"]) == 2
    assert cog_validate(download(dataset, cog["url"], tmp_path / "a.tif"))[0]
    copc = derivatives(dataset, "flight/cloud.laz")["copc"]
    with laspy.CopcReader.open(str(download(dataset, copc["url"], tmp_path / "a.copc.laz"))) as reader:
        assert reader.header.point_count == 2000


def test_a_textured_mesh_is_downloaded_as_glb(built: tuple[Dataset, dict[str, Any]], tmp_path: Path) -> None:
    dataset, _ = built
    mesh = "flight/odm_textured_model_geo.obj"
    glb = derivatives(dataset, mesh)["glb"]
    assert (glb["properties"]["faces"], len(glb["properties"]["textures"])) == (128, 2)
    answer = dataset.client.get(glb["url"])
    assert answer.headers["content-type"] == "model/gltf-binary"
    assert 'filename="odm_textured_model_geo.glb"' in answer.headers["content-disposition"]
    (tmp_path / "a.glb").write_bytes(answer.content)
    assert [image.size for image in images_of(tmp_path / "a.glb")] == [(96, 64), (96, 64)]


def test_a_derivative_is_read_in_ranges(built: tuple[Dataset, dict[str, Any]]) -> None:
    dataset, _ = built
    pmtiles = derivatives(dataset, "flight/roads.shp")["pmtiles"]
    asked: list[int] = []

    def fetch(offset: int, length: int) -> bytes:
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        answer = dataset.client.get(pmtiles["url"], headers=headers)
        asked.append(answer.status_code)
        return answer.content

    reader = Reader(fetch)
    assert reader.get(0, 0, 0)
    assert reader.metadata()["vector_layers"]
    assert set(asked) == {206}


def test_a_derivative_supports_conditional_requests(built: tuple[Dataset, dict[str, Any]]) -> None:
    dataset, _ = built
    cog = derivatives(dataset, "flight/field.tif")["cog"]
    whole = dataset.client.get(cog["url"])
    assert whole.headers["etag"] == f'"{cog["hash"]}"'
    assert hashlib.sha256(whole.content).hexdigest() == cog["hash"]
    assert len(whole.content) == cog["size"] == int(whole.headers["content-length"])
    assert whole.headers["content-type"] == "image/tiff"
    assert 'filename="field.cog.tif"' in whole.headers["content-disposition"]
    head = dataset.client.head(cog["url"])
    assert (head.status_code, head.headers["etag"]) == (200, whole.headers["etag"])
    known = {"If-None-Match": whole.headers["etag"]}
    assert dataset.client.get(cog["url"], headers=known).status_code == 304
    assert dataset.client.get(cog["url"], headers={"If-Match": '"other"'}).status_code == 412
    assert dataset.client.get(cog["url"], headers={"Range": "bytes=999999999-"}).status_code == 416


def test_nothing_is_built_twice_unless_forced(built: tuple[Dataset, dict[str, Any]]) -> None:
    dataset, first = built
    before = derivatives(dataset, "flight/roads.shp")
    again = dataset.run("build")
    listed = again["result"]["derivatives"]
    # Only failed ones are built again.
    assert {each["path"] for each in listed} == {"flight/half.laz", "flight/empty.tif"}
    one = dataset.run("build", path="flight/roads.shp")
    assert [each["outcome"] for each in one["result"]["derivatives"]] == ["present", "present"]
    assert derivatives(dataset, "flight/roads.shp") == before
    forced = dataset.run("build", {"force": True}, path="flight/roads.shp")
    assert forced["result"]["built"] == 2
    assert derivatives(dataset, "flight/roads.shp")["gpkg"]["createdAt"] > before["gpkg"]["createdAt"]
    assert first["result"]["built"] in {5, 6}  # with NXZ, where pymeshlab is installed


def test_new_content_has_no_derivative_and_the_old_content_still_has(world: World, files: Path) -> None:
    dataset = world.dataset()
    old = (files / "roads.dbf").read_bytes()
    for suffix in ("shp", "shx", "dbf", "prj"):
        dataset.upload(f"roads.{suffix}", files / f"roads.{suffix}")
    assert dataset.run("build", path="roads.shp")["state"] == "Succeeded"
    assert set(derivatives(dataset, "roads.shp")) == {"pmtiles", "gpkg"}
    dataset.upload("roads.dbf", old.replace(b"tree", b"bush"))
    assert derivatives(dataset, "roads.shp") == {}
    dataset.upload("roads.dbf", old)
    assert set(derivatives(dataset, "roads.shp")) == {"pmtiles", "gpkg"}


def test_a_mesh_with_another_texture_has_no_derivative(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    write_odm(tmp_path / "odm")
    for file in sorted((tmp_path / "odm").iterdir()):
        dataset.upload(file.name, file)
    mesh = "odm_textured_model_geo.obj"
    assert dataset.run("build", path=mesh)["state"] == "Succeeded"
    assert "glb" in derivatives(dataset, mesh)
    Image.new("RGB", (8, 8)).save(tmp_path / "new.png")
    dataset.upload("odm_textured_model_geo_material0000_map_Kd.png", tmp_path / "new.png")
    assert derivatives(dataset, mesh) == {}


def test_readers_of_the_dataset_can_read_its_derivatives(
    world: World, built: tuple[Dataset, dict[str, Any]]
) -> None:
    dataset, _ = built
    cog = derivatives(dataset, "flight/field.tif")["cog"]["url"]
    reader = world.member(dataset.org, "readOnly")
    assert reader.get(cog).status_code == 200
    assert dataset.seen_by(reader).try_submit("build").status_code == 403
    for client, status in ((world.client(world.user()), 404), (world.client(), 401)):
        assert client.get(cog).status_code == status
        assert client.head(cog).status_code == status
        assert client.get(f"{dataset.address}/build/flight/field.tif").status_code == status


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        ("build/flight/cloud.laz/cog", 404, "no-such-derivative"),
        ("build/flight/absent.tif/cog", 404, "no-such-entry"),
        ("build/flight/absent.tif", 404, "no-such-entry"),
        ("build/flight", 400, "not-a-file"),
        ("build/flight/cog", 400, "not-a-file"),
        ("build/flight/field.tif/mbtiles", 404, "no-such-entry"),
        ("build/..%2fx.tif/cog", 400, "invalid-path"),
        ("build/.ddb/x", 400, "invalid-path"),
    ],
)
def test_missing_derivatives_get_clear_errors(
    built: tuple[Dataset, dict[str, Any]], address: str, status: int, code: str
) -> None:
    dataset, _ = built
    answer = dataset.client.get(f"{dataset.address}/{address}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_impossible_build_is_rejected_at_submit(
    built: tuple[Dataset, dict[str, Any]],
) -> None:
    dataset, _ = built
    for body, code in (
        ({"path": "flight/roads.dbf"}, "nothing-to-build"),
        ({"path": "flight/empty.tif"}, "unreadable-raster"),
        ({"path": "absent.tif"}, "no-such-entry"),
        ({"params": {"kinds": "cog"}}, "invalid-params"),
    ):
        answer = dataset.try_submit("build", **body)
        assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_kinds_say_whether_they_can_be_built_here(world: World) -> None:
    kinds = {each["kind"]: each for each in world.client().get("/sys/features").json()["derivatives"]}
    assert list(kinds) == ["cog", "copc", "glb", "nxz", "pmtiles", "gpkg"]
    for kind, feature in kinds.items():
        assert feature["available"] is (feature["unavailableReason"] is None)
        assert feature["available"] or kind == "nxz"
    if not kinds["nxz"]["available"]:
        assert "pip install pymeshlab" in kinds["nxz"]["unavailableReason"]

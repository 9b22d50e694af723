"""Contents that links open: with GET and HEAD, in ranges, with safe headers, for programs that send no headers."""

import subprocess
from pathlib import Path

import pytest
import rasterio
from tests.api.links.conftest import PAGE, Site
from tests.support.sse import events_of
from tests.support.world import World, eventually
from tests.tiles.maps import AT

TILE = f"tiles/{AT.z}/{AT.x}/{AT.y}"
OF_THE_RASTER = [
    "obj/maps/field.tif",
    "build/maps/field.tif",
    "build/maps/field.tif/cog",
    "build/maps/field.tif/cog/field.cog.tif",
    "build/maps/field.tif/cog/field.tif",
    "thumb?path=maps/field.tif",
    "tilejson.json?path=maps/field.tif&formula=b1",
    f"{TILE}.png?path=maps/field.tif&formula=b1",
    f"{TILE}@2x.png?path=maps/field.tif&formula=b1",
    "list?path=maps/field.tif",
]
OF_THE_TASK = [
    "",
    "/log",
    "/output",
    "/events",
    "/result",
    "/assets",
    "/tilejson.json",
    f"/{TILE}.png",
    f"/{TILE}@2x.png",
]


def test_a_link_to_a_file_gives_it_without_a_header(site: Site) -> None:
    made = site.link(path="maps/field.tif")
    assert made["url"].endswith("/obj/maps/field.tif")
    assert made["url"].startswith(made["baseUrl"])
    whole = site.anonymous.get(made["url"])
    assert (whole.status_code, whole.content) == (200, site.raster)
    part = site.anonymous.get(made["url"], headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, site.raster[2:6])
    head = site.anonymous.head(made["url"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(site.raster)))
    assert site.status(made["url"], headers={"If-None-Match": whole.headers["etag"]}) == 304


@pytest.mark.parametrize("target", [{"path": "maps/field.tif"}, {"folder": "maps"}, {"folder": ""}])
def test_a_link_to_a_file_folder_or_dataset_opens_all_routes_of_an_entry(
    site: Site, target: dict[str, str]
) -> None:
    base = site.base(**target)
    for method in ("GET", "HEAD"):
        answers = {path: site.status(base + path, method) for path in OF_THE_RASTER}
        assert answers == dict.fromkeys(OF_THE_RASTER, 200), method


@pytest.mark.parametrize("whole_dataset", [False, True])
def test_a_link_to_a_task_or_dataset_opens_all_routes_of_a_task(site: Site, *, whole_dataset: bool) -> None:
    target = {"folder": ""} if whole_dataset else {"taskId": site.task["taskId"]}
    base = site.base(**target) + site.task_address
    named = [f"/result/{site.task['artifact']['fileName']}", f"/assets/{site.task['artifact']['fileName']}"]
    for method in ("GET", "HEAD"):
        answers = {path: site.status(base + path, method) for path in OF_THE_TASK + named}
        assert answers == dict.fromkeys(OF_THE_TASK + named, 200), method


def test_the_address_of_a_result_ends_in_its_file_name(site: Site) -> None:
    url = site.link(taskId=site.task["taskId"])["url"]
    assert url.endswith(f"{site.task_address}/result/{site.task['artifact']['fileName']}")
    assert site.anonymous.get(url).headers["etag"] == f'"{site.task["artifact"]["sha256"]}"'
    other = site.anonymous.get(url.rpartition("/")[0] + "/other.tif")
    assert (other.status_code, other.json()["code"]) == (404, "no-such-asset")


def test_the_same_addresses_work_with_a_header_too(site: Site) -> None:
    here = site.dataset.address
    for path in (
        f"{site.task_address}/result/{site.task['artifact']['fileName']}",
        "build/maps/field.tif/cog/field.cog.tif",
        "build/maps/field.tif/cog/field.tif",
    ):
        answer = site.dataset.client.get(f"{here}/{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/tiff"), path
    assert site.status(f"{here}/{site.task_address}/result/x.tif") == 401


def test_a_folder_that_is_called_like_a_kind_stays_an_entry(world: World, site: Site) -> None:
    dataset = world.dataset()
    dataset.upload("exports/cog/exports.tif", site.raster, indexed=False)
    answer = dataset.client.get(f"{dataset.address}/build/exports/cog/exports.tif")
    assert (answer.status_code, answer.json()) == (200, [])
    other = dataset.client.get(f"{dataset.address}/build/exports/cog/absent.tif")
    assert (other.status_code, other.json()["code"]) == (404, "no-such-entry")
    made = dataset.client.post(f"{dataset.address}/links", json={"path": "exports/cog/exports.tif"}).json()
    assert site.anonymous.get(f"{made['baseUrl']}build/exports/cog/exports.tif").json() == []


def test_addresses_in_responses_lie_under_the_link(site: Site) -> None:
    base = site.base(folder="")
    found = site.anonymous.get(f"{base}tilejson.json?path=maps/field.tif&formula=b1").json()
    assert found["tiles"][0].startswith(f"{base}tiles/")
    assert "token" not in found["tiles"][0]
    assert site.status(found["tiles"][0].format(z=AT.z, x=AT.x, y=AT.y)) == 200
    addresses = [
        site.anonymous.get(f"{base}build/maps/field.tif").json()[0]["url"],
        site.anonymous.get(f"{base}{site.task_address}/assets").json()[0]["url"],
        *site.anonymous.get(f"{base}{site.task_address}/tilejson.json").json()["tiles"],
    ]
    opened = [site.status(address.format(z=AT.z, x=AT.x, y=AT.y)) for address in addresses]
    assert opened == [200, 200, 200]


def test_a_folder_is_listed_within_the_link(site: Site) -> None:
    made = site.link(folder="maps")
    assert made["url"] == f"{made['baseUrl']}list"
    assert [entry["path"] for entry in site.anonymous.get(made["url"]).json()] == [
        "maps/field.tif",
        "maps/page.html",
    ]
    for path in ("", "/", "maps-2", "notes.md"):
        answer = site.anonymous.get(made["url"], params={"path": path})
        assert (answer.status_code, answer.json()["code"]) == (404, "no-such-link"), path


def test_a_page_by_a_link_can_do_nothing_in_a_browser(site: Site) -> None:
    answer = site.anonymous.get(site.link(path="maps/page.html")["url"])
    assert answer.content == PAGE
    headers = answer.headers
    assert headers["content-disposition"].startswith('attachment; filename="page.html"')
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "private, no-cache"
    assert headers["x-robots-tag"] == "noindex"


def test_pages_of_other_origins_may_read_what_a_link_opens(site: Site) -> None:
    base = site.base(folder="")
    for path in ("obj/notes.md", "list", f"{site.task_address}/log", f"{site.task_address}/events"):
        headers = site.anonymous.get(base + path, headers={"Range": "bytes=0-1"}).headers
        assert headers["access-control-allow-origin"] == "*", path
        assert {"Content-Range", "Content-Length", "ETag", "Accept-Ranges"} <= {
            *headers["access-control-expose-headers"].split(", ")
        }
        assert headers["cross-origin-resource-policy"] == "cross-origin"


def test_images_of_a_public_dataset_by_a_link_are_private(world: World, site: Site) -> None:
    dataset = world.dataset(visibility="public")
    dataset.upload("field.tif", site.raster)
    made = dataset.client.post(f"{dataset.address}/links", json={"path": "field.tif", "scope": "view"}).json()
    assert made["url"] == f"{made['baseUrl']}tilejson.json?path=field.tif"
    found = site.anonymous.get(f"{made['url']}&formula=b1").json()
    tile = site.anonymous.get(found["tiles"][0].format(z=AT.z, x=AT.x, y=AT.y))
    assert (tile.status_code, tile.headers["cache-control"]) == (200, "private, max-age=86400")


def test_the_events_of_a_private_task_are_followed_by_a_link(world: World, tmp_path: Path) -> None:
    dataset, go = world.dataset(), tmp_path / "go"
    task_id = dataset.submit("patient", {"until": str(go), "lines": 3})
    made = dataset.client.post(f"{dataset.address}/links", json={"taskId": task_id, "scope": "view"}).json()
    assert made["url"].endswith(f"tasks/{task_id}/events")
    eventually(lambda: dataset.status(task_id)["state"] == "Processing")
    names = []
    with world.client().stream("GET", made["url"]) as response:
        for event in events_of(response):
            names.append(event.name)
            go.touch()
    assert names[-1] == "end"
    assert names.count("log") == 4


def test_rasterio_reads_a_private_cog_with_nothing_but_the_link(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    only_tif = {"CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    base = site.base(path="maps/field.tif")
    for url in (
        f"{base}obj/maps/field.tif",
        f"{base}build/maps/field.tif/cog/field.tif",
        site.link(taskId=site.task["taskId"])["url"],
    ):
        with rasterio.Env(**only_tif), rasterio.open(f"/vsicurl/{url}") as opened:
            assert opened.read(1).shape == (256, 256)


def test_curl_resumes_a_download_by_a_link(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "field.tif"
    part.write_bytes(site.raster[:1000])
    url = site.link(path="maps/field.tif")["url"]
    subprocess.run(
        ["curl", "-sS", "--fail", "--noproxy", "*", "-C", "-", "-o", part, url], check=True, timeout=60
    )
    assert part.read_bytes() == site.raster

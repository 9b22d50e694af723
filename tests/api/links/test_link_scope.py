"""A link opens exactly what it was made for, and only for reading."""

import pytest
from tests.api.links.conftest import Site
from tests.support.world import World

WHAT_ONLY_SHOWS = [
    "list?path=maps",
    "build/maps/field.tif",
    "thumb?path=maps/field.tif",
    "tilejson.json?path=maps/field.tif&formula=b1",
]


def codes(site: Site, *addresses: str) -> set[tuple[int, str]]:
    answers = [site.anonymous.get(address) for address in addresses]
    return {(answer.status_code, answer.json()["code"]) for answer in answers}


def test_a_link_to_a_folder_opens_nothing_beside_it(site: Site) -> None:
    base = site.base(folder="maps")
    outside = [
        "maps-2/page.html",
        "notes.md",
        "MAPS/field.tif",
        "Maps/field.tif",
        "map",
        "maps%2D2/page.html",
    ]
    addresses = [f"{base}{route}" for path in outside for route in (f"obj/{path}", f"build/{path}/cog")]
    addresses += [
        f"{base}{route}?path={path}" for path in outside for route in ("thumb", "tilejson.json", "list")
    ]
    assert codes(site, *addresses, f"{base}{site.task_address}") == {(404, "no-such-link")}


@pytest.mark.parametrize(
    "path",
    [
        "maps/../notes.md",
        "maps/%2e%2e/notes.md",
        "maps%2f..%2fnotes.md",
        "maps/..%5cnotes.md",
        "maps/%252e%252e/notes.md",
        "maps//field.tif",
        "%2fmaps/field.tif",
        "maps/%ef%bc%8e%ef%bc%8e/notes.md",
    ],
)
def test_no_path_leads_out_of_a_folder(site: Site, path: str) -> None:
    base = site.base(folder="maps")
    # The client would resolve dots itself.
    raw = base.encode() + b"obj/" + path.encode()
    request = site.anonymous.build_request("GET", base)
    request.url = request.url.copy_with(raw_path=raw.partition(b"/links/")[1] + raw.partition(b"/links/")[2])
    assert site.anonymous.send(request).status_code in {400, 404}


def test_a_link_to_a_file_opens_nothing_else(site: Site) -> None:
    base = site.base(path="maps/page.html")
    assert site.status(f"{base}obj/maps/page.html") == 200
    outside = [
        *("obj/maps/field.tif", "obj/maps", "obj/maps/page.htm", "obj/notes.md"),
        *("list?path=maps", "list?path=", "build/maps/field.tif", site.task_address),
        f"{site.task_address}/result",
    ]
    assert codes(site, *(base + path for path in outside)) == {(404, "no-such-link")}


def test_a_link_to_a_task_opens_no_other_task_and_no_entry(site: Site) -> None:
    base = site.base(taskId=site.task["taskId"])
    other = site.dataset.run("nothing")["taskId"]
    outside = [
        *(f"tasks/{other}", f"tasks/{other}/log", f"tasks/{other}/events", f"tasks/{other}/result"),
        *("obj/maps/field.tif", "list", "list?path=", "build/maps/field.tif", "thumb?path=maps/field.tif"),
    ]
    assert codes(site, *(base + path for path in outside)) == {(404, "no-such-link")}


def test_a_link_to_a_dataset_opens_no_other_dataset(world: World, site: Site) -> None:
    other = world.dataset(org=site.dataset.org)
    other.upload("secret.txt", b"x", indexed=False)
    task = other.run("nothing")["taskId"]
    base = site.base(folder="")
    assert codes(site, f"{base}obj/secret.txt", f"{base}tasks/{task}", f"{base}tasks/{task}/log") == {
        (404, "no-such-entry"),
        (404, "no-such-task"),
    }


def test_a_link_that_only_shows_gives_no_files(site: Site) -> None:
    base = site.base(folder="", scope="view")
    assert {site.status(base + path) for path in WHAT_ONLY_SHOWS} == {200}
    assert {
        site.status(f"{base}{site.task_address}{path}") for path in ("", "/log", "/output", "/assets")
    } == {200}
    files = [
        *("obj/maps/field.tif", "build/maps/field.tif/cog", "build/maps/field.tif/cog/field.tif"),
        f"{site.task_address}/result",
        f"{site.task_address}/result/{site.task['artifact']['fileName']}",
        f"{site.task_address}/assets/{site.task['artifact']['fileName']}",
    ]
    assert codes(site, *(base + path for path in files)) == {(403, "link-only-shows")}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_method_that_writes_passes(site: Site, method: str) -> None:
    base = site.base(folder="")
    for path in (
        "obj/new.txt",
        "obj/notes.md",
        "list",
        site.task_address,
        f"{site.task_address}/result",
    ):
        assert site.status(base + path, method, content=b"x") in {404, 405}, path
    for path in (
        "tasks",
        "uploads",
        "links",
        "view-tokens",
        "search",
        f"{site.task_address}/retry",
        "rename",
    ):
        assert site.status(base + path, method, json={}) == 404, path
    assert site.dataset.entry("notes.md")["size"] == len(b"<script>alert(1)</script>")


def test_a_link_is_no_bearer_token_and_no_view_token(site: Site) -> None:
    token = site.base(folder="").split("/")[-2]
    assert site.status("/users/me", headers={"Authorization": f"Bearer {token}"}) == 401
    assert site.status(f"{site.dataset.address}/obj/notes.md", params={"token": token}) == 401
    view = site.dataset.client.post(f"{site.dataset.address}/view-tokens", json={}).json()["token"]
    assert site.status(f"/links/{view[:128]}/list") == 404


def test_the_status_by_a_link_hides_the_callback(world: World, site: Site) -> None:
    task = site.dataset.submit("nothing", callbackUrl="https://example.com/secret")
    site.dataset.wait(task)
    assert site.dataset.status(task)["callbackUrl"] == "https://example.com/secret"
    base = site.base(taskId=task)
    assert site.anonymous.get(f"{base}tasks/{task}").json()["callbackUrl"] is None
    assert "secret" not in site.anonymous.get(f"{base}tasks/{task}/events").text

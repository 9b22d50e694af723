"""Map tiles, TileJSON, thumbnails and view tokens of a whole stack, over HTTP."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import laspy
import numpy as np
import pytest
from PIL import Image
from tests.conftest import SECRET
from tests.raster.rasters import read, write_raster
from tests.support.credential_endings import deactivated_and_back, key_revoked, password_changed, signed_out
from tests.support.world import Dataset, World
from tests.tiles.images import pixels_of
from tests.tiles.maps import AT, BLACK, GREEN, NOTHING, RED, WHITE, halves, on_tile

HERE = f"{AT.z}/{AT.x}/{AT.y}"
STYLE = {"formula": "(b2-b1)/(b2+b1)", "rescale": "-0.4,0.4"}


@dataclass(frozen=True, slots=True)
class Maps:
    """A private dataset with a raster of one tile, and a task result made from it."""

    dataset: Dataset
    export: Path
    task_id: str

    def get(self, path: str, *, as_: httpx.Client | None = None, **options: Any) -> httpx.Response:
        return (as_ or self.dataset.client).get(f"{self.dataset.address}/{path}", **options)

    def tile(self, place: str = HERE, **options: Any) -> httpx.Response:
        params = {"path": "field.tif", **STYLE, **options.pop("params", {})}
        return self.get(f"tiles/{place}.png", params=params, **options)

    def token(self, **body: Any) -> str:
        answer = self.dataset.client.post(f"{self.dataset.address}/view-tokens", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])


@pytest.fixture(scope="module")
def maps(world: World, tmp_path_factory: pytest.TempPathFactory) -> Maps:
    folder = tmp_path_factory.mktemp("maps")
    pixels = np.concatenate([halves(3, 1), halves(1, 3)])
    pixels[:, 0, 0] = -9
    raster = on_tile(folder / "field.tif", pixels, nodata=-9)
    dataset = world.dataset()
    dataset.upload("field.tif", raster)
    dataset.upload("notes.md", b"# x")
    task = dataset.run("raster-export", {"path": "field.tif", **STYLE})
    assert task["state"] == "Succeeded"
    export = folder / "export.tif"
    export.write_bytes(dataset.client.get(task["artifact"]["resultUrl"]).content)
    return Maps(dataset, export, task["taskId"])


@pytest.fixture
def anonymous(world: World) -> httpx.Client:
    return world.client()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_tile_has_literal_colours_and_those_of_raster_export(maps: Maps) -> None:
    answer = maps.tile()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    drawn = pixels_of(answer.content)
    assert drawn.shape == (256, 256, 4)
    assert [drawn[0, 0].tolist(), drawn[9, 9].tolist(), drawn[9, 200].tolist()] == [NOTHING, RED, GREEN]
    assert np.array_equal(drawn, np.moveaxis(read(maps.export), 0, -1))


def test_a_result_is_shown_as_it_is(maps: Maps) -> None:
    answer = maps.get(f"tasks/{maps.task_id}/tiles/{HERE}.png")
    assert np.array_equal(pixels_of(answer.content), np.moveaxis(read(maps.export), 0, -1))


def test_2x_tiles_have_twice_the_resolution(maps: Maps) -> None:
    large = pixels_of(maps.tile(f"{HERE}@2x").content)
    assert large.shape == (512, 512, 4)
    assert [large[9, 9].tolist(), large[9, 400].tolist()] == [RED, GREEN]
    assert maps.get(f"tasks/{maps.task_id}/tiles/{HERE}@2x.png").status_code == 200


def test_a_tile_outside_the_raster_is_404(maps: Maps) -> None:
    assert code_of(maps.tile(f"{AT.z}/{AT.x + 1}/{AT.y}")) == (404, "tile-outside")


@pytest.mark.parametrize("place", ["25/0/0", "3/8/0", "3/0/8", "3/-1/0", "-1/0/0"])
def test_an_invalid_tile_index_is_400(maps: Maps, place: str) -> None:
    assert code_of(maps.tile(place)) == (400, "no-such-tile")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"formula": "EVI2"}, (400, "unknown-formula")),
        ({"formula": "NDVI"}, (400, "missing-bands")),
        ({"colormap": "none"}, (400, "values-not-shown")),
        ({"rescale": "2,1"}, (400, "invalid-rescale")),
        ({"path": "notes.md"}, (400, "not-a-raster")),
        ({"path": "absent.tif"}, (404, "no-such-entry")),
        ({"path": "../field.tif"}, (400, "invalid-path")),
        ({"path": "/vsicurl/http://127.0.0.1/x.tif"}, (400, "invalid-path")),
    ],
)
def test_invalid_parameters_get_the_error_codes_of_the_tool(
    maps: Maps, params: dict[str, str], expected: tuple[int, str]
) -> None:
    assert code_of(maps.tile(params=params)) == expected


def test_a_known_tile_gets_304_and_another_style_another_etag(maps: Maps) -> None:
    first = maps.tile()
    assert first.headers["cache-control"] == "private, no-cache"
    again = maps.tile(headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = maps.tile(params={"colormap": "viridis"}, headers={"If-None-Match": first.headers["etag"]})
    assert (other.status_code, other.headers["etag"] != first.headers["etag"]) == (200, True)


def test_the_etag_changes_with_the_content(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    address, params = f"{dataset.address}/tiles/{HERE}.png", {"path": "a.tif", "rescale": "-1,1"}
    dataset.upload("a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    first = dataset.client.get(address, params=params)
    dataset.upload("a.tif", on_tile(tmp_path / "b.tif", halves(-5, -5)))
    second = dataset.client.get(address, params=params, headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert pixels_of(second.content)[0, 0].tolist() == BLACK


def test_tilejson_has_working_tile_urls(maps: Maps, anonymous: httpx.Client) -> None:
    answer = maps.get("tilejson.json", params={"path": "field.tif", **STYLE})
    found = answer.json()
    assert (found["tilejson"], found["name"], found["scheme"]) == ("3.0.0", "field.tif", "xyz")
    assert (found["minzoom"], found["maxzoom"]) == (0, AT.z)
    assert found["bounds"] == pytest.approx(AT.bounds_deg(), abs=1e-6)
    assert answer.headers["cache-control"] == "no-store"
    (template,) = found["tiles"]
    tile = anonymous.get(template.format(z=AT.z, x=AT.x, y=AT.y))
    assert np.array_equal(pixels_of(tile.content), pixels_of(maps.tile().content))
    assert tile.headers["cache-control"] == "private, max-age=86400"
    assert tile.headers["access-control-allow-origin"] == "*"


def test_tilejson_of_a_result_has_a_token_for_that_result_alone(maps: Maps, anonymous: httpx.Client) -> None:
    (template,) = maps.get(f"tasks/{maps.task_id}/tilejson.json").json()["tiles"]
    assert anonymous.get(template.format(z=AT.z, x=AT.x, y=AT.y)).status_code == 200
    token = parse_qs(urlsplit(template).query)["token"][0]
    assert code_of(maps.tile(as_=anonymous, params={"token": token})) == (401, "bad-credentials")


def test_a_public_raster_needs_no_token(world: World, anonymous: httpx.Client, tmp_path: Path) -> None:
    dataset = world.dataset(visibility="public")
    dataset.upload("a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    found = anonymous.get(f"{dataset.address}/tilejson.json", params={"path": "a.tif"}).json()
    assert "token" not in found["tiles"][0]
    tile = anonymous.get(found["tiles"][0].format(z=AT.z, x=AT.x, y=AT.y))
    # Shared caches may store it for a minute only, since the dataset may become private.
    assert (tile.status_code, tile.headers["cache-control"]) == (200, "public, max-age=86400, s-maxage=60")
    stale = anonymous.get(found["tiles"][0].format(z=AT.z, x=AT.x, y=AT.y) + "&token=stale")
    assert stale.status_code == 200


def test_tiles_of_an_unlisted_raster_are_not_stored_by_shared_caches(
    world: World, anonymous: httpx.Client, tmp_path: Path
) -> None:
    dataset = world.dataset(visibility="unlisted")
    dataset.upload("a.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    found = anonymous.get(f"{dataset.address}/tilejson.json", params={"path": "a.tif"}).json()
    tile = anonymous.get(found["tiles"][0].format(z=AT.z, x=AT.x, y=AT.y))
    assert (tile.status_code, tile.headers["cache-control"]) == (200, "private, max-age=86400")
    thumb = anonymous.get(f"{dataset.address}/thumb", params={"path": "a.tif"})
    assert thumb.headers["cache-control"] == "private, no-cache"


def test_an_invalid_token_takes_nothing_from_an_authenticated_caller(
    world: World, maps: Maps, anonymous: httpx.Client
) -> None:
    other = world.dataset().client.post(f"{world.dataset().address}/view-tokens", json={}).json()["token"]
    for token in ("stale", other):
        assert maps.tile(params={"token": token}).status_code == 200
        found = maps.get("tilejson.json", params={"path": "field.tif", "token": token}).json()
        # Its tile URLs contain a valid token.
        assert anonymous.get(found["tiles"][0].format(z=AT.z, x=AT.x, y=AT.y)).status_code == 200
        assert maps.tile(as_=anonymous, params={"token": token}).status_code == 401


def test_head_equals_get_without_the_image(maps: Maps) -> None:
    for path in (
        f"tiles/{HERE}.png",
        "tilejson.json",
        "thumb",
        "list",
        f"tasks/{maps.task_id}/tilejson.json",
    ):
        address = f"{maps.dataset.address}/{path}"
        params = {} if path.startswith("tasks/") else {"path": "field.tif"}
        whole = maps.dataset.client.get(address, params=params)
        head = maps.dataset.client.head(address, params=params)
        assert (head.status_code, head.content) == (200, b""), path
        for name in ("content-type", "etag", "cache-control"):
            assert head.headers.get(name) == whole.headers.get(name), (path, name)
    assert maps.dataset.client.head(f"{maps.dataset.address}/list", params={"path": "no"}).status_code == 404


def test_a_new_derivative_changes_every_etag(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    dataset.upload("a.tif", on_tile(tmp_path / "a.tif", halves(-5, 5)))

    def responses() -> tuple[str, httpx.Response, httpx.Response]:
        tilejson, tile, thumb = (
            dataset.client.get(
                f"{dataset.address}/{path}", params={"path": "a.tif", **style}
            ).raise_for_status()
            for path, style in (
                ("tilejson.json", {"rescale": "-1,1"}),
                (f"tiles/{HERE}.png", {"rescale": "-1,1"}),
                ("thumb", {}),
            )
        )
        return tilejson.json()["tiles"][0], tile, thumb

    template, *before = responses()
    assert dataset.run("build", {"path": "a.tif"})["state"] == "Succeeded"
    new_template, *after = responses()

    for old, new in zip(before, after, strict=True):
        assert old.headers["etag"] != new.headers["etag"]
    assert pixels_of(after[0].content)[9, [9, 200]].tolist() == [BLACK, WHITE]
    versions = [parse_qs(urlsplit(each).query)["v"] for each in (template, new_template)]
    assert versions[0] != versions[1]
    # A URL with the previous version is no longer cacheable.
    former = dataset.client.get(template.format(z=AT.z, x=AT.x, y=AT.y))
    assert former.headers["cache-control"] == "private, no-cache"


def test_without_a_token_a_private_raster_is_hidden(
    world: World, maps: Maps, anonymous: httpx.Client
) -> None:
    stranger = world.client(world.user())
    for path in (f"tiles/{HERE}.png", "tilejson.json", "thumb"):
        assert maps.get(path, as_=anonymous, params={"path": "field.tif"}).status_code == 401
        assert maps.get(path, as_=stranger, params={"path": "field.tif"}).status_code == 404
    assert maps.get(f"tasks/{maps.task_id}/tilejson.json", as_=anonymous).status_code == 401


def test_a_dataset_token_is_valid_for_the_routes_that_only_show(maps: Maps, anonymous: httpx.Client) -> None:
    token = maps.token()
    for path in (
        f"tiles/{HERE}.png",
        f"tiles/{HERE}@2x.png",
        "tilejson.json",
        "thumb",
        f"tasks/{maps.task_id}/tiles/{HERE}.png",
        f"tasks/{maps.task_id}/tilejson.json",
    ):
        params = {"token": token} | ({} if path.startswith("tasks/") else {"path": "field.tif"})
        assert maps.get(path, as_=anonymous, params=params).status_code == 200, path
    for path in ("list", "tasks", f"tasks/{maps.task_id}", "links", "download", "tasks/tools"):
        answer = maps.get(path, as_=anonymous, params={"token": token})
        assert code_of(answer) == (400, "unknown-parameter"), path
        bearer = {"Authorization": f"Bearer {token}"}
        assert maps.get(path, as_=anonymous, headers=bearer).status_code == 401, path


OF_A_TASK = ("log", "output", "events", "result", "assets", "result/{name}", "assets/{name}")


def test_a_token_opens_contents_and_what_its_task_says_and_makes(maps: Maps, anonymous: httpx.Client) -> None:
    name = maps.dataset.status(maps.task_id)["artifact"]["fileName"]
    of_task = [f"tasks/{maps.task_id}/{path.format(name=name)}" for path in OF_A_TASK]
    for token in (maps.token(), maps.token(taskId=maps.task_id)):
        for path in of_task:
            answer = maps.get(path, as_=anonymous, params={"token": token})
            assert answer.status_code == 200, path
            assert answer.headers["access-control-allow-origin"] == "*", path
            assert answer.headers["cache-control"] in {"private, no-cache", "no-store"}, path
            assert maps.get(path, as_=anonymous, params={"token": "stale"}).status_code == 401, path
            assert maps.get(path, params={"token": "stale"}).status_code == 200, path
    for token, opened in ((maps.token(), 200), (maps.token(taskId=maps.task_id), 401)):
        for path in ("obj/field.tif", "build/field.tif"):
            answer = maps.get(path, as_=anonymous, params={"token": token})
            assert answer.status_code == opened, path


def test_a_task_token_opens_no_other_task_and_changes_nothing(maps: Maps, anonymous: httpx.Client) -> None:
    token, other = maps.token(taskId=maps.task_id), maps.dataset.run("nothing")["taskId"]
    for path in ("log", "output", "events", "result", "assets"):
        answer = maps.get(f"tasks/{other}/{path}", as_=anonymous, params={"token": token})
        assert code_of(answer) == (401, "bad-credentials"), path
    for method, path in (("PUT", "obj/x.txt"), ("DELETE", "obj/field.tif"), ("DELETE", f"tasks/{other}")):
        address = f"{maps.dataset.address}/{path}"
        refused = anonymous.request(method, address, params={"token": maps.token()})
        assert code_of(refused) == (400, "unknown-parameter"), path
    malformed = maps.get("tasks/no-uuid/log", as_=anonymous, params={"token": token})
    assert code_of(malformed) == (400, "invalid-request")


def test_a_bearer_token_is_no_tile_token(maps: Maps, anonymous: httpx.Client) -> None:
    bearer = maps.dataset.client.headers["authorization"].removeprefix("Bearer ")
    assert code_of(maps.tile(as_=anonymous, params={"token": bearer})) == (401, "bad-credentials")


def test_a_token_is_valid_for_one_dataset(
    world: World, maps: Maps, anonymous: httpx.Client, tmp_path: Path
) -> None:
    other = world.dataset(org=maps.dataset.org)
    other.upload("field.tif", on_tile(tmp_path / "a.tif", halves(5, 5)))
    token = maps.token()
    for address in (other.address, f"/orgs/{maps.dataset.org}/ds/absent"):
        answer = anonymous.get(f"{address}/tiles/{HERE}.png", params={"path": "field.tif", "token": token})
        assert code_of(answer) == (401, "bad-credentials")


def test_a_task_token_is_valid_for_its_result(maps: Maps, anonymous: httpx.Client) -> None:
    token = maps.token(taskId=maps.task_id)
    address = f"tasks/{maps.task_id}/tiles/{HERE}.png"
    assert maps.get(address, as_=anonymous, params={"token": token}).status_code == 200
    assert maps.tile(as_=anonymous, params={"token": token}).status_code == 401


def test_tokens_are_issued_only_to_readers(world: World, maps: Maps, anonymous: httpx.Client) -> None:
    address = f"{maps.dataset.address}/view-tokens"
    assert anonymous.post(address, json={}).status_code == 401
    assert world.client(world.user()).post(address, json={}).status_code == 404
    assert (
        maps.dataset.client.post(address, json={"taskId": "01a202aa-79fd-751d-a0d9-3f78baef0118"}).status_code
        == 404
    )


def test_a_token_ends_with_the_permissions_of_its_owner(
    world: World, maps: Maps, anonymous: httpx.Client
) -> None:
    member = world.member(maps.dataset.org, "readOnly")
    token = member.post(f"{maps.dataset.address}/view-tokens", json={}).json()["token"]
    assert maps.tile(as_=anonymous, params={"token": token}).status_code == 200
    name = member.get("/users/me").json()["userName"]
    world.admin.delete(f"/orgs/{maps.dataset.org}/members/{name}").raise_for_status()
    assert code_of(maps.tile(as_=anonymous, params={"token": token})) == (401, "bad-credentials")


@pytest.mark.parametrize("end", [deactivated_and_back, signed_out, password_changed, key_revoked])
def test_a_token_ends_with_the_credentials_that_created_it(
    world: World, maps: Maps, anonymous: httpx.Client, end: Callable[[World, str, httpx.Client], None]
) -> None:
    session = world.member(maps.dataset.org, "readOnly")
    name = session.get("/users/me").json()["userName"]
    program = world.client()
    key = session.post("/users/me/keys", json={"name": "maps"}).raise_for_status().json()["key"]
    program.headers["Authorization"] = f"Bearer {key}"
    maker = program if end is key_revoked else session
    made = maker.post(f"{maps.dataset.address}/view-tokens", json={}).raise_for_status().json()
    tilejson = maps.get("tilejson.json", as_=maker, params={"path": "field.tif"}).raise_for_status().json()
    tokens = [made["token"], parse_qs(urlsplit(tilejson["tiles"][0]).query)["token"][0]]
    for token in tokens:
        assert maps.tile(as_=anonymous, params={"token": token}).status_code == 200
    end(world, name, session)
    for token in tokens:
        assert code_of(maps.tile(as_=anonymous, params={"token": token})) == (401, "bad-credentials")


def test_an_expired_or_forged_token_is_refused(maps: Maps, anonymous: httpx.Client) -> None:
    token = maps.token()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - datetime.now(UTC).timestamp() == pytest.approx(3600, abs=300)
    for forged in (
        jwt.encode(claims, SECRET, "HS256"),
        jwt.encode(claims, "", "none"),
        token[:-4] + "AAAA",
        "x",
    ):
        assert code_of(maps.tile(as_=anonymous, params={"token": forged})) == (401, "bad-credentials")


def test_a_thumbnail_of_a_raster_is_small_and_cached(maps: Maps) -> None:
    answer = maps.get("thumb", params={"path": "field.tif", "size": 64})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert pixels_of(answer.content).shape == (64, 64, 4)
    again = maps.get(
        "thumb",
        params={"path": "field.tif", "size": 64},
        headers={"If-None-Match": answer.headers["etag"]},
    )
    assert again.status_code == 304


@pytest.mark.parametrize(("asked", "given"), [(1, 16), (5000, 256), (-3, 16)])
def test_sizes_are_clamped_and_images_are_not_enlarged(maps: Maps, asked: int, given: int) -> None:
    answer = maps.get("thumb", params={"path": "field.tif", "size": asked})
    assert pixels_of(answer.content).shape[:2] == (given, given)


def test_a_photo_is_rotated_by_exif(world: World) -> None:
    photo = Image.new("RGB", (200, 100), (250, 0, 0))
    photo.paste((0, 0, 250), (100, 0, 200, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise
    content = io.BytesIO()
    photo.save(content, "JPEG", exif=exif, quality=95)
    dataset = world.dataset()
    dataset.upload("a.jpg", content.getvalue())
    answer = dataset.client.get(f"{dataset.address}/thumb", params={"path": "a.jpg", "size": 100})
    drawn = pixels_of(answer.content)
    assert drawn.shape == (100, 50, 4)
    assert drawn[10, 25, 0] > 200
    assert drawn[90, 25, 2] > 200


def test_a_point_cloud_is_drawn_from_above_by_height(world: World, tmp_path: Path) -> None:
    cloud = laspy.LasData(laspy.LasHeader(point_format=6, version="1.4"))
    cloud.x, cloud.y = (axis.ravel() for axis in np.meshgrid(np.arange(100.0), np.arange(50.0)))
    cloud.z = np.where(cloud.x < 50, 0.0, 10.0)
    cloud.write(tmp_path / "a.laz")
    dataset = world.dataset()
    dataset.upload("a.laz", tmp_path / "a.laz", indexed=False)
    answer = dataset.client.get(f"{dataset.address}/thumb", params={"path": "a.laz", "size": 100})
    drawn = pixels_of(answer.content)
    assert drawn.shape == (50, 100, 4)
    low, high = drawn[25, 20, :3].astype(int), drawn[25, 80, :3].astype(int)
    assert np.abs(low - [0x44, 0x01, 0x54]).max() < 16
    assert np.abs(high - [0xFD, 0xE7, 0x25]).max() < 16


def test_a_geojson_is_drawn(world: World) -> None:
    dataset = world.dataset()
    dataset.upload(
        "a.geojson", b'{"type": "LineString", "coordinates": [[0, 0], [0.5, 0.5], [1, 0]]}', indexed=False
    )
    answer = dataset.client.get(f"{dataset.address}/thumb", params={"path": "a.geojson", "size": 100})
    assert (answer.status_code, pixels_of(answer.content).shape) == (200, (53, 100, 4))


def test_other_entries_have_no_thumbnail(maps: Maps) -> None:
    assert code_of(maps.get("thumb", params={"path": "notes.md"})) == (400, "no-thumbnail")


def test_a_raster_without_georeference_has_a_thumbnail_but_no_tiles(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    dataset.upload("a.tif", write_raster(tmp_path / "a.tif", halves(0, 1), crs=None, transform=None))
    params = {"path": "a.tif"}
    assert dataset.client.get(f"{dataset.address}/thumb", params=params).status_code == 200
    tilejson = dataset.client.get(f"{dataset.address}/tilejson.json", params=params)
    assert code_of(tilejson) == (400, "not-georeferenced")


def test_a_task_without_a_raster_result_has_no_tiles(world: World, maps: Maps) -> None:
    text = maps.dataset.run("patient", {"publish": "text"})["taskId"]
    assert code_of(maps.get(f"tasks/{text}/tilejson.json")) == (400, "unreadable-raster")
    nothing = maps.dataset.run("nothing", {})["taskId"]
    assert code_of(maps.get(f"tasks/{nothing}/tilejson.json")) == (404, "no-artifact")


def test_a_preview_needs_read_on_its_inputs(world: World, maps: Maps) -> None:
    address = f"{maps.dataset.address}/align/preview"
    answer = world.client().post(address, json={})
    assert answer.status_code == 401

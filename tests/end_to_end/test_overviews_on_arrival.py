"""Overviews of rasters that arrive without: pictures at once, then the same before and after a build."""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import rasterio
from rasterio.warp import transform_bounds
from tests.conftest import StackFactory
from tests.guarantees.invariants import sql
from tests.raster.rasters import write_raster
from tests.support.processes import add_worker, frozen, kill, other_environment
from tests.support.world import Dataset, World, eventually
from tests.tiles.images import pixels_of

from aerotask.tiles.tile_matrix import TileIndex

LANE = 4


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of 2 bands, of which zoomed-out tiles would differ most."""
    pixels = np.random.default_rng(3).integers(1, 60_000, (2, 1100, 1400)).astype(np.uint16)
    return write_raster(tmp_path_factory.mktemp("files") / "field.tif", pixels, nodata=0)


def made(world: World, dataset: Dataset) -> list[str]:
    """The kinds of the dataset's derivatives."""
    query = (
        "SELECT kind FROM derivatives JOIN datasets d ON d.id = dataset_id WHERE d.slug = $1 ORDER BY kind"
    )
    return [row["kind"] for row in sql(world, query, dataset.slug)]


def is_waiting(world: World, dataset: Dataset) -> bool:
    """Whether any raster of the dataset waits for its overviews."""
    query = (
        "SELECT 1 FROM entries e JOIN datasets d ON d.id = dataset_id WHERE d.slug = $1 AND index_lane = $2"
    )
    return bool(sql(world, query, dataset.slug, LANE))


def get(dataset: Dataset, route: str, **params: str) -> httpx.Response:
    return dataset.client.get(f"{dataset.address}/{route}", params={"path": "field.tif", **params})


def tiles_of(path: Path) -> list[TileIndex]:
    """The tile that shows most of the raster's middle, at every zoom."""
    with rasterio.open(path) as opened:
        west, south, east, north = transform_bounds(opened.crs, "EPSG:4326", *opened.bounds)
    found = []
    for z in range(20):
        x = int(((west + east) / 2 + 180) / 360 * 2**z)
        y = next(row for row in range(2**z) if TileIndex(z, x, row).bounds_deg()[1] < (south + north) / 2)
        found.append(TileIndex(z, x, y))
    return found


def pictures(dataset: Dataset, path: Path) -> dict[str, Any]:
    """Every tile and the thumbnail, as pixels."""
    answers = {
        f"{tile.z}": get(dataset, f"tiles/{tile.z}/{tile.x}/{tile.y}.png").raise_for_status()
        for tile in tiles_of(path)
    }
    drawn = {zoom: pixels_of(answer.content) for zoom, answer in answers.items()}
    return drawn | {"thumbnail": pixels_of(get(dataset, "thumb").raise_for_status().content)}


def test_pictures_come_at_once_and_are_the_same_before_and_after_a_build(world: World, raster: Path) -> None:
    dataset = world.dataset()
    dataset.upload("field.tif", raster, indexed=False)
    tile = tiles_of(raster)[14]
    route = f"tiles/{tile.z}/{tile.x}/{tile.y}.png"
    first = [get(dataset, "thumb"), get(dataset, route), get(dataset, "tilejson.json")]
    assert [answer.status_code for answer in first] == [200, 200, 200]
    assert first[2].json()["minzoom"] == 0

    eventually(lambda: made(world, dataset) == ["overviews"] and not is_waiting(world, dataset))
    # Only drawing uses them: a client sees, and a build finds, nothing.
    assert dataset.client.get(f"{dataset.address}/build/field.tif").json() == []

    before = pictures(dataset, raster)
    assert dataset.run("build", path="field.tif")["result"]["built"] == 1
    after = pictures(dataset, raster)
    assert {name: int(np.any(before[name] != after[name], axis=-1).sum()) for name in after} == dict.fromkeys(
        after, 0
    )


def test_they_are_kept_by_content_and_go_with_it(world: World, raster: Path) -> None:
    dataset = world.dataset()
    dataset.upload("field.tif", raster)
    eventually(lambda: made(world, dataset) == ["overviews"])
    query = "SELECT blob_key, derivatives.created_at FROM derivatives JOIN datasets d ON d.id = dataset_id WHERE d.slug = $1"
    first = sql(world, query, dataset.slug)
    dataset.upload("again.tif", raster)
    dataset.upload("field.tif", raster)
    eventually(lambda: not is_waiting(world, dataset))
    assert sql(world, query, dataset.slug) == first

    for name in ("field.tif", "again.tif"):
        dataset.client.delete(f"{dataset.address}/obj/{name}").raise_for_status()
    # As if they had been made long ago.
    aged = (
        "UPDATE derivatives SET created_at = derivatives.created_at - interval '30 days' "
        "FROM datasets d WHERE d.id = dataset_id AND d.slug = $1"
    )
    sql(world, aged, dataset.slug)
    eventually(lambda: made(world, dataset) == [])


def test_a_raster_that_can_not_be_read_is_tried_once(world: World, raster: Path) -> None:
    dataset = world.dataset()
    whole = raster.read_bytes()
    with (
        rasterio.open(raster) as opened,
        rasterio.open(
            raster.with_name("packed.tif"), "w", **{**opened.profile, "compress": "deflate"}
        ) as packed,
    ):
        packed.write(opened.read())
    packed_bytes = raster.with_name("packed.tif").read_bytes()
    assert len(whole) > 1_000_000
    half = len(packed_bytes) // 2
    dataset.upload("field.tif", packed_bytes[:half] + bytes(4096) + packed_bytes[half + 4096 :])
    eventually(lambda: not is_waiting(world, dataset))
    assert made(world, dataset) == []
    assert dataset.entry("field.tif")["type"] == "geoRaster"
    assert get(dataset, "thumb").status_code in {200, 400}


@pytest.fixture
def halting(make_stack: StackFactory) -> Iterator[World]:
    """A stack with one worker, whose children stop before they make overviews."""
    with make_stack(workers=1, failpoint="overviews-reading:stop") as world:
        yield world


def test_another_worker_goes_on_after_one_that_is_killed(halting: World, raster: Path) -> None:
    dataset = halting.dataset()
    dataset.upload("field.tif", raster)  # and is indexed meanwhile
    worker = halting.stack.workers[0]

    stopped: list[psutil.Process] = []

    def has_stopped() -> bool:
        stopped[:] = filter(_is_frozen, psutil.Process(worker.pid).children(recursive=True))
        return bool(stopped)

    eventually(has_stopped)
    dataset.upload("notes.md", b"# Notes")  # the index goes on
    tile = tiles_of(raster)[14]
    route = f"tiles/{tile.z}/{tile.x}/{tile.y}.png"
    former = version(dataset)
    first = [get(dataset, "thumb"), get(dataset, route, v=former)]
    # Clients don't keep what was drawn without overviews.
    assert [answer.status_code for answer in first] == [200, 200]
    assert [answer.headers["cache-control"] for answer in first] == ["private, no-cache"] * 2
    with other_environment(halting, failpoint=""):
        add_worker(halting)
    kill(worker)
    with suppress(psutil.NoSuchProcess):
        stopped[0].kill()
    eventually(partial(is_made, halting, dataset), timeout_s=60)
    last = [get(dataset, "thumb"), get(dataset, route, v=version(dataset))]
    assert last[1].headers["cache-control"] == "private, max-age=86400"
    assert len({answer.headers["etag"] for answer in (*first, *last)}) == 4
    assert get(dataset, route, v=former).headers["cache-control"] == "private, no-cache"


def version(dataset: Dataset) -> str:
    """The version of the content in the URLs of its tiles."""
    found = get(dataset, "tilejson.json").raise_for_status().json()
    return str(found["tiles"][0]).rpartition("v=")[2]


def is_made(world: World, dataset: Dataset) -> bool:
    return made(world, dataset) == ["overviews"]


def _is_frozen(pid: psutil.Process) -> bool:
    try:
        return frozen(pid.pid)
    except psutil.NoSuchProcess:
        return False

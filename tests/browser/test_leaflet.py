"""Leaflet in a real browser, on another origin than the API, shows a private raster with a view token."""

import functools
import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from rasterio.transform import from_bounds
from tests.raster.rasters import write_raster
from tests.support.world import World
from tests.tiles.maps import AT, GREEN, RED, halves

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LEAFLET = "leaflet@1.9.4"
PAGE = Path(__file__).with_name("map.html")


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a site with the page and Leaflet."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here to fetch Leaflet with")
    folder = tmp_path_factory.mktemp("site")
    command = [
        npm,
        "install",
        "--prefix",
        str(folder),
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        LEAFLET,
    ]
    fetched = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if fetched.returncode:
        pytest.skip(f"npm could not fetch {LEAFLET}: {fetched.stderr.strip()[-200:]}")
    shutil.copytree(folder / "node_modules" / "leaflet", folder / "pages" / "leaflet")
    shutil.copy(PAGE, folder / "pages")
    with serving_files(folder / "pages") as url:
        yield url


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """The URL of a web server of the folder."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Suppresses the request log."""


def a_bit_more_than_a_tile(path: Path) -> Path:
    """A raster of two halves that extends one pixel beyond each edge of a tile into its neighbours."""
    pixels = np.pad(np.concatenate([halves(3, 1), halves(1, 3)]), ((0, 0), (1, 1), (1, 1)), mode="edge")
    west, south, east, north = AT.bounds_m()
    px = (east - west) / 256
    grid = from_bounds(west - px, south - px, east + px, north + px, 258, 258)
    return write_raster(path, pixels, crs="EPSG:3857", transform=grid)


def open_page(browser: str, address: str, profile: Path, *options: str) -> str:
    command = [
        browser,
        "--headless=new",
        "--no-sandbox",  # needed in containers and as root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--hide-scrollbars",
        "--window-size=700,500",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=30000",
        *options,
        address,
    ]
    opened = subprocess.run(command, capture_output=True, text=True, timeout=150, check=True)
    return opened.stdout


def messages_of(page: str) -> dict[str, str]:
    body = re.search(r"<body[^>]*>", page)
    assert body is not None, page[:500]
    return dict(re.findall(r'data-([\w-]+)="([^"]*)"', body.group()))


def test_leaflet_shows_a_private_raster_with_a_tile_token(
    world: World, browser: str, site: str, tmp_path: Path
) -> None:
    dataset = world.dataset()
    dataset.upload("field.tif", a_bit_more_than_a_tile(tmp_path / "field.tif"))
    token = dataset.client.post(f"{dataset.address}/view-tokens", json={}).json()["token"]
    style = {"path": "field.tif", "formula": "(b2-b1)/(b2+b1)", "rescale": "-0.4,0.4", "token": token}
    tilejson = f"{world.stack.address}{dataset.address}/tilejson.json?{urlencode(style)}"
    address = f"{site}/map.html?{urlencode({'tilejson': tilejson})}"
    messages = messages_of(open_page(browser, address, tmp_path / "profile", "--dump-dom"))
    assert (messages["state"], messages["failed"]) == ("shown", "0")
    assert int(messages["loaded"]) >= 1
    colours = messages[f"tile{AT.z}_{AT.x}_{AT.y}"]
    assert colours == " ".join(",".join(map(str, colour)) for colour in (RED, GREEN))

"""Messages about damaged and odd files: no file of the server, and no library's own words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.guarantees.invariants import sql
from tests.support.odd_files import ARCHIVES, ODD_FILES, RASTERS, write_odd_files
from tests.support.world import Dataset, World, eventually

FOLDERS = re.compile(
    r"(?<![\w/.:])/(tmp|home|usr|var|opt|work|root|proc|dev|vsi\w*)/|site-packages|\.venv|\.py\b"
)
RAW = re.compile(
    r"GDAL|PROJ:|proj_|CPLE|Traceback|rasterio|pyogrio|pyproj|shapely|TIFFRead|TIFFFetch|_TIFF|libjpeg|libpng|libtiff|"
    r"\b0x[0-9a-f]|std::|ERROR \d|previous exception|sqlite3?_|OGR|lazrs|laspy\.|LaspyException|Errno|zlib|py7zr|bsdtar: |NoneType|"
    r"<class|object at|linked-vector-file|Failed to read|not recognized as|malformed"
)
UNREADABLE = [name for name in RASTERS if re.search(r"^(cut|damaged|odd)-.*tif", name)]
SOUND = [
    *("complex.tif", "local.tif", "unknown-crs.tif", "no-crs.tif", "nan-transform.tif", "flat-transform.tif"),
    *("far-away.tif", "no-system.shp", "odd-system.shp", "no-parts.shp", "other.geojson", "twice.geojson"),
]
"""Files that are odd but neither damaged nor incomplete."""
ABOUT_RASTERS = ("tilejson.json", "tiles/12/2134/1411.png", "tiles/0/0/0.png")


def told_by(dataset: Dataset, address: str, path: str) -> str:
    """The answer's text, or nothing for an image."""
    answer = dataset.client.get(f"{dataset.address}/{address}", params={"path": path})
    assert answer.status_code not in {500, 502}, answer.text
    return "" if answer.headers["content-type"].startswith("image/") else answer.text


def is_indexed(dataset: Dataset, path: str) -> bool:
    return bool(dataset.entry(path)["indexed"])


def tasks_about(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Submits tasks that read the files; each with the name of the file that it is about."""

    def submit(name: str, tool: str, params: dict[str, Any]) -> Iterator[tuple[str, str]]:
        answer = dataset.try_submit(tool, params)
        yield name, answer.json().get("taskId") or answer.text

    yield from submit("good.tif", "build", {"force": True})
    for name in ("cut.gpkg", "damaged-lzw.tif", "damaged.laz", *SOUND):
        yield from submit(name, "build", {"path": name, "force": True})
    for name in RASTERS:
        yield from submit(name, "raster-export", {"path": name, "formula": "b1"})
    for name in [*UNREADABLE, *filter(RASTERS.get, SOUND)]:
        align = {"sourcePath": name, "referencePath": "good.tif", "outputPath": f"out/aligned-{name}"}
        yield from submit(name, "align-raster", align)
        merge = {"paths": ["good.tif", name], "outputPath": f"out/merged-{name}"}
        yield from submit(name, "merge-multispectral", merge)
    for name in ARCHIVES:
        yield from submit(name, "archive-extract", {"sourcePath": name, "destPath": f"out/{name}"})
    yield from submit("good.tif", "rescan-index", {})


@pytest.fixture(scope="module")
def told(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Everything that a client is told about each file."""
    dataset = world.dataset()
    # Before the index knows the raster, its tiles find out by themselves what is wrong with it.
    texts: dict[str, list[str]] = {name: [] for name in ODD_FILES}
    for name, content in write_odd_files(tmp_path_factory.mktemp("odd")).items():
        dataset.upload(name, content, indexed=False)
        if name in RASTERS:
            texts[name].append(told_by(dataset, "tilejson.json", name))
    for name in ODD_FILES:
        eventually(partial(is_indexed, dataset, name))
        texts[name].append(json.dumps(dataset.entry(name)))
        texts[name].append(told_by(dataset, "thumb", name))
        if name in RASTERS:
            texts[name] += [told_by(dataset, address, name) for address in ABOUT_RASTERS]
    for name, task in list(tasks_about(dataset)):
        if not re.fullmatch(r"[0-9a-f-]{36}", task):
            texts[name].append(task)
            continue
        texts[name] += [json.dumps(dataset.wait(task)), "\n".join(dataset.log(task))]
    for name in ODD_FILES:
        texts[name].append(json.dumps(dataset.entry(name)))
    keys = [row["blob_key"] for row in sql(world, "SELECT blob_key FROM entries WHERE blob_key IS NOT NULL")]
    secret = re.compile("|".join(map(re.escape, keys)))
    for name, all_told in texts.items():
        assert not [text for text in all_told if secret.search(text)], name
    return texts


@pytest.mark.parametrize("name", sorted(ODD_FILES))
def test_nothing_raw_is_told(told: dict[str, list[str]], name: str) -> None:
    for text in told[name]:
        for pattern in (FOLDERS, RAW):
            found = pattern.search(text)
            assert found is None, text[max(found.start() - 200, 0) : found.end() + 200]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_is_not_called_damaged(told: dict[str, list[str]], name: str) -> None:
    assert [text for text in told[name] if re.search("damaged|incomplete", text)] == []


def test_the_raw_words_are_in_the_logs_under_the_task_the_entry_and_the_request(
    world: World, told: dict[str, list[str]]
) -> None:
    assert told
    assert world.stack.log is not None
    log = Path(world.stack.log.name).read_text(encoding="utf-8", errors="replace")
    lines = [line for line in log.splitlines() if "malformed" in line and "child.logged" in line]
    assert any("entry_id" in line and "dataset_id" in line for line in lines)
    assert any("task_id" in line and "tool" in line and "build" in line for line in lines)
    refused = [line for line in log.splitlines() if "request.refused" in line]
    assert any(
        "/thumb" in line and "damaged-raster" in line and "RasterioIOError" in line for line in refused
    )

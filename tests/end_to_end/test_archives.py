"""bulk-download and archive-extract through the whole stack."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.archives.archive_files import tarred, zipped
from tests.raster.rasters import slope, write_raster
from tests.support.world import Dataset, World, eventually


def entries(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """All entries, once all of them are indexed."""

    def listed() -> list[dict[str, Any]]:
        answer = dataset.client.get(f"{dataset.address}/list", params={"recursive": "true"})
        return list(answer.raise_for_status().json())

    eventually(lambda: all(entry["indexed"] for entry in listed()))
    return {entry["path"]: entry for entry in listed()}


def downloaded(dataset: Dataset, task: dict[str, Any]) -> bytes:
    assert task["state"] == "Succeeded", task["error"]
    answer = dataset.client.get(f"{dataset.address}/tasks/{task['taskId']}/result").raise_for_status()
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    return answer.content


def test_a_zip_of_a_dataset_restores_every_entry_in_an_empty_one(world: World, tmp_path: Path) -> None:
    source = world.dataset()
    raster = tmp_path / "map.tif"
    write_raster(raster, slope((64, 64)))
    source.upload("maps/map.tif", raster)
    source.upload("notes \U0001f600.md", b"# Notes")
    source.upload("maps/broken.tif", b"no raster")
    source.client.post(f"{source.address}/obj", files={"path": (None, b"empty/inside")})

    archive = downloaded(source, source.run("bulk-download"))
    eventually(lambda: time.time() > max(entry["mtime"] for entry in entries(source).values()) + 1)
    target = world.dataset()
    target.upload("whole.zip", archive)
    task = target.run("archive-extract", {"sourcePath": "whole.zip", "deleteArchive": True})

    assert task["state"] == "Succeeded", task["error"]
    assert task["result"] == {
        "extracted": 3,
        "skipped": 0,
        "ignored": 0,
        "bytes": raster.stat().st_size + 16,
        "format": "ZIP",
        "warnings": [],
        "replaced": [],
        "replacedCount": 0,
    }
    before, after = entries(source), entries(target)
    kept = ("path", "hash", "type", "properties", "mtime", "size", "depth", "pointGeom", "polygonGeom")
    assert [[entry[name] for name in kept] for entry in after.values()] == [
        [entry[name] for name in kept] for entry in before.values()
    ]
    assert {entry["path"]: entry["hash"] for entry in before.values() if entry["hash"]} == {
        output["path"]: output["hash"] for output in task["outputs"]
    }


def test_a_zip_holds_the_contents_at_the_submit(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("a.txt", b"first", indexed=False)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    task_id = dataset.submit("bulk-download", scheduledAt=soon)
    dataset.upload("a.txt", b"second", indexed=False)
    archive = zipfile.ZipFile(io.BytesIO(downloaded(dataset, dataset.wait(task_id))))
    assert archive.read("a.txt") == b"first"


@pytest.mark.parametrize("newer", ["in.zip", "in.zip/photo.jpg"])
def test_new_content_at_the_archives_path_is_not_deleted(world: World, newer: str) -> None:
    dataset = world.dataset()
    dataset.upload("in.zip", zipped({"a.txt": b"first"}), indexed=False)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    params = {"sourcePath": "in.zip", "destPath": "out", "deleteArchive": True}
    task_id = dataset.submit("archive-extract", params, scheduledAt=soon)
    dataset.client.delete(f"{dataset.address}/obj/in.zip").raise_for_status()
    dataset.upload(newer, b"nobody has extracted this", indexed=False)
    assert dataset.wait(task_id)["state"] == "Succeeded"
    assert {"out/a.txt", newer} <= set(dataset.paths())
    assert any("'in.zip' was not removed" in line for line in dataset.log(task_id))


def test_existing_files_stay_unless_overwrite_is_requested(world: World) -> None:
    dataset = world.dataset()
    old = dataset.upload("out/a.txt", b"old", indexed=False)
    dataset.upload("in.tar", tarred({"a.txt": b"new", "b.txt": b"new"}), indexed=False)

    def content(path: str) -> bytes:
        return dataset.client.get(f"{dataset.address}/obj/{path}").content

    params = {"sourcePath": "in.tar", "destPath": "out"}
    first = dataset.run("archive-extract", params)
    assert (first["result"]["extracted"], first["result"]["skipped"]) == (1, 1)
    assert first["result"]["replaced"] == []
    assert (content("out/a.txt"), content("out/b.txt")) == (b"old", b"new")
    second = dataset.run("archive-extract", {**params, "overwrite": True})
    assert (second["result"]["extracted"], second["result"]["skipped"]) == (2, 0)
    assert second["result"]["replaced"][0] == {"path": "out/a.txt", "hash": old["hash"]}
    assert [replaced["path"] for replaced in second["result"]["replaced"]] == ["out/a.txt", "out/b.txt"]
    assert content("out/a.txt") == b"new"


def test_a_file_in_the_way_of_a_folder_fails_the_task_and_changes_nothing(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("a", b"a file", indexed=False)
    dataset.upload("in.zip", zipped({"0.txt": b"x", "a/b.txt": b"x"}), indexed=False)
    task = dataset.run("archive-extract", {"sourcePath": "in.zip"})
    assert (task["state"], task["error"]["code"]) == ("Failed", "entry-is-file")
    assert dataset.paths() == ["a", "in.zip"]


def test_removing_the_archive_requires_the_delete_permission(world: World) -> None:
    dataset = world.dataset()
    dataset.upload("in.zip", zipped({"a.txt": b"x"}), indexed=False)
    writer = dataset.seen_by(world.member(dataset.org, "readWrite"))
    params = {"sourcePath": "in.zip", "deleteArchive": True}
    assert writer.try_submit("archive-extract", params).status_code == 403
    assert writer.run("archive-extract", {"sourcePath": "in.zip"})["state"] == "Succeeded"
    reader = dataset.seen_by(world.member(dataset.org, "readOnly"))
    assert reader.try_submit("archive-extract", {"sourcePath": "in.zip"}).status_code == 403


@pytest.mark.parametrize(
    ("tool", "params", "code"),
    [
        ("bulk-download", {"paths": []}, "invalid-params"),
        ("bulk-download", {"paths": ["none"]}, "no-such-entry"),
        ("bulk-download", {"paths": ["../x"]}, "invalid-params"),
        ("archive-extract", {}, "invalid-params"),
        ("archive-extract", {"sourcePath": "a.txt"}, "unsupported-format"),
        ("archive-extract", {"sourcePath": "a.zip", "destPath": ".ddb"}, "invalid-params"),
    ],
)
def test_an_impossible_task_is_rejected_at_submit(
    world: World, tool: str, params: dict[str, Any], code: str
) -> None:
    dataset = world.dataset()
    for name in ("a.txt", "a.zip"):
        dataset.upload(name, b"x", indexed=False)
    answer = dataset.try_submit(tool, params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)

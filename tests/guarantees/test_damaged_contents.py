"""Stored files that were truncated or altered: never served or packed as whole, and found and repaired by a check."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.guarantees.invariants import sql, stored_files
from tests.raster.rasters import slope, write_raster
from tests.support.world import Dataset, World, eventually

CONTENT = b"the content of a file\n" * 1000


def blob_of(world: World, dataset: Dataset, path: str) -> Path:
    """The stored file of an entry."""
    rows = sql(
        world,
        "SELECT e.blob_key FROM entries e JOIN datasets d ON d.id = e.dataset_id WHERE d.slug = $1 AND e.path = $2",
        dataset.slug,
        path,
    )
    return stored_files(world)[rows[0]["blob_key"]]


@contextmanager
def replaced(file: Path, content: bytes | None) -> Iterator[None]:
    """The stored file has another content, or is gone, until the end of the block."""
    intact = file.with_name(f"{file.name}.intact")
    file.rename(intact)
    try:
        if content is not None:
            file.write_bytes(content)
        yield
    finally:
        file.unlink(missing_ok=True)
        intact.rename(file)


def altered(content: bytes) -> bytes:
    """The content with one byte changed."""
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def damaged_blobs(world: World) -> float:
    answer = world.client().get("/metrics").raise_for_status()
    families = text_string_to_metric_families(answer.text)
    return {each.name: each.samples[0].value for each in families if each.samples}["aerotask_damaged_blobs"]


def verify(world: World, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aerotask", "storage", "verify", *options]
    environment = os.environ | world.stack.environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("size_bytes", [len(CONTENT) // 2, len(CONTENT) - 1, 0])
def test_a_truncated_file_is_not_served(world: World, size_bytes: int) -> None:
    dataset = world.dataset()
    dataset.upload("a.txt", CONTENT)
    dataset.upload("b.txt", b"intact")
    addresses = [f"{dataset.address}/obj/a.txt", f"{dataset.address}/download?path=a.txt&path=b.txt"]
    with replaced(blob_of(world, dataset, "a.txt"), CONTENT[:size_bytes]):
        for address in addresses:
            for headers in ({}, {"Range": "bytes=0-3"}):
                answer = dataset.client.get(address, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (500, "content-damaged")
                assert answer.json()["noRetry"] is True
                assert "etag" not in answer.headers
        assert dataset.client.head(addresses[0]).status_code == 500
        assert damaged_blobs(world) >= 1
    assert dataset.client.get(addresses[0]).content == CONTENT
    assert verify(world).returncode == 0
    assert damaged_blobs(world) == 0


def test_a_truncated_artifact_and_raster_are_not_served_or_drawn(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    dataset.upload("map.tif", write_raster(tmp_path / "map.tif", slope((64, 64))))
    task = dataset.run("bulk-download")
    key = sql(world, "SELECT blob_key FROM artifacts WHERE task_id::text = $1", task["taskId"])[0]["blob_key"]
    with replaced(stored_files(world)[key], b"PK"):
        answer = dataset.client.get(f"{dataset.address}/tasks/{task['taskId']}/result")
    assert (answer.status_code, answer.json()["code"]) == (500, "content-damaged")
    with replaced(blob_of(world, dataset, "map.tif"), b"II*\0"):
        answer = dataset.client.get(f"{dataset.address}/thumb", params={"path": "map.tif"})
    assert (answer.status_code, answer.json()["code"]) == (500, "content-damaged")
    assert verify(world).returncode == 0


def test_a_truncated_file_is_not_indexed_until_it_is_repaired(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    raster = write_raster(tmp_path / "map.tif", slope((64, 64)))
    dataset.upload("map.tif", raster)
    blob = blob_of(world, dataset, "map.tif")
    unindex = "UPDATE entries SET indexed = false, type = 'generic', properties = '{}', index_due_at = now() WHERE blob_key = $1"
    with replaced(blob, raster.read_bytes()[:-100]):
        sql(world, unindex, blob.name)
        eventually(lambda: damaged_blobs(world) >= 1)
        entry = dataset.entry("map.tif")
        assert (entry["indexed"], entry["type"], entry["properties"]) == (False, "generic", {})
    sql(world, unindex, blob.name)  # rather than wait for a minute
    eventually(lambda: dataset.entry("map.tif")["indexed"])
    assert dataset.entry("map.tif")["type"] == "geoRaster"
    assert verify(world).returncode == 0


def test_an_altered_file_is_not_packed_built_or_extracted(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    raster = write_raster(tmp_path / "map.tif", slope((64, 64))).read_bytes()
    for path, content in (("a.txt", CONTENT), ("map.tif", raster)):
        dataset.upload(path, content)
    shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path, "map.tif")
    archive = (tmp_path / "in.zip").read_bytes()
    dataset.upload("in.zip", archive)
    with (
        replaced(blob_of(world, dataset, "a.txt"), altered(CONTENT)),
        replaced(blob_of(world, dataset, "map.tif"), altered(raster)),
        replaced(blob_of(world, dataset, "in.zip"), altered(archive)),
    ):
        for tool, params in (
            ("bulk-download", {}),
            ("build", {"path": "map.tif"}),
            ("archive-extract", {"sourcePath": "in.zip", "destPath": "out"}),
        ):
            task = dataset.run(tool, params)
            assert (task["state"], task["error"]["code"]) == ("Failed", "content-damaged"), tool
        with pytest.raises(httpx.RemoteProtocolError):
            dataset.client.get(f"{dataset.address}/download")
        assert damaged_blobs(world) == 3
    assert dataset.run("bulk-download")["state"] == "Succeeded"
    assert verify(world).returncode == 0


@pytest.mark.parametrize("content", [altered(CONTENT), CONTENT[:50]])
def test_a_rescan_reports_a_damaged_file_and_changes_nothing(world: World, content: bytes) -> None:
    dataset = world.dataset()
    before = [dataset.upload("a.txt", CONTENT), dataset.upload("b.txt", b"intact")]
    assert before[0]["hash"] == hashlib.sha256(CONTENT).hexdigest()
    with replaced(blob_of(world, dataset, "a.txt"), content):
        task = dataset.run("rescan-index")
        stopped = dataset.run("rescan-index", {"stopOnError": True})
        assert damaged_blobs(world) == 1
    assert task["state"] == "Succeeded"
    assert (task["result"]["total"], task["result"]["ok"]) == (2, 1)
    assert [failure["path"] for failure in task["result"]["failed"]] == ["a.txt"]
    assert "is damaged" in task["result"]["failed"][0]["error"]
    assert (stopped["state"], stopped["error"]["code"]) == ("Failed", "content-damaged")
    assert [dataset.entry(path) for path in ("a.txt", "b.txt")] == before
    assert verify(world).returncode == 0


def test_a_check_finds_and_repairs_damaged_files(world: World, tmp_path: Path) -> None:
    dataset = world.dataset()
    contents = {
        name: CONTENT + name.encode() for name in ("short.txt", "altered.txt", "gone.txt", "whole.txt")
    }
    for name, content in contents.items():
        dataset.upload(name, content)
    backup = tmp_path / "backup"
    blobs = {name: blob_of(world, dataset, name) for name in contents}
    for file in blobs.values():
        copy = backup / "blobs" / file.parent.name / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())

    def listed(done: subprocess.CompletedProcess[str], word: str) -> set[str]:
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"{word}: ")]
        return {name for name in contents for line in lines if f"{dataset.slug}/{name}" in line}

    def damage() -> None:
        blobs["short.txt"].unlink()
        blobs["short.txt"].write_bytes(contents["short.txt"][:10])
        blobs["altered.txt"].unlink()
        blobs["altered.txt"].write_bytes(altered(contents["altered.txt"]))
        blobs["gone.txt"].unlink()

    damage()
    quick, deep = verify(world), verify(world, "--deep")
    assert (quick.returncode, listed(quick, "damaged")) == (1, {"short.txt", "gone.txt"})
    assert (deep.returncode, listed(deep, "damaged")) == (1, {"short.txt", "gone.txt", "altered.txt"})
    assert damaged_blobs(world) == 3

    # A copy that is damaged itself repairs nothing.
    bad = backup / "blobs" / blobs["altered.txt"].parent.name / blobs["altered.txt"].name
    bad.write_bytes(altered(contents["altered.txt"]))
    partly = verify(world, "--repair-from", str(backup))
    assert (partly.returncode, listed(partly, "repaired")) == (1, {"short.txt", "gone.txt"})
    bad.write_bytes(contents["altered.txt"])
    # Known damage is compared by hash even without --deep.
    rest = verify(world, "--repair-from", str(backup))
    assert (rest.returncode, listed(rest, "repaired")) == (0, {"altered.txt"})
    assert damaged_blobs(world) == 0
    for name, content in contents.items():
        assert dataset.client.get(f"{dataset.address}/obj/{name}").content == content

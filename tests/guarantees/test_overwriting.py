"""Tools replace no file without being asked to, and their results name what they replaced."""

from __future__ import annotations

from pathlib import Path

from tests.raster.alignment.scenes import canvas, cut, shifted
from tests.raster.rasters import write_raster
from tests.support.world import World

from aerotask.domain.access import Access
from aerotask.registry import load_registry

ALIGN = {"sourcePath": "source.tif", "referencePath": "reference.tif", "outputPath": "aligned.tif"}
# These change only what is known about entries, not their contents.
KEEPING_CONTENTS = {"build", "rescan-index"}


def test_every_tool_that_writes_files_has_overwrite_and_it_is_off() -> None:
    writing = [tool for tool in load_registry().all() if tool.access is Access.WRITE]
    overwriting = {
        tool.id: tool.params.model_fields["overwrite"].default
        for tool in writing
        if "overwrite" in tool.params.model_fields
    }
    assert {tool.id for tool in writing} - KEEPING_CONTENTS == overwriting.keys()
    assert overwriting.keys() == {"align-raster", "archive-extract", "merge-multispectral"}
    assert set(overwriting.values()) == {False}


def test_an_alignment_replaces_a_file_only_on_request_and_names_it(world: World, tmp_path: Path) -> None:
    dataset, scene = world.dataset(), canvas(31)
    dataset.upload("reference.tif", write_raster(tmp_path / "r.tif", cut(scene, left=0, top=0), nodata=0))
    source = write_raster(tmp_path / "s.tif", shifted(scene, right=5, down=-3), nodata=0)
    dataset.upload("source.tif", source)
    old = dataset.upload("aligned.tif", b"the old content", indexed=False)
    output = f"{dataset.address}/obj/aligned.tif"

    refused = dataset.try_submit("align-raster", ALIGN)
    assert (refused.status_code, refused.json()["code"]) == (400, "output-exists")
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/params/outputPath"]

    late = dataset.submit("align-raster", ALIGN | {"outputPath": "late.tif"})
    dataset.upload("late.tif", b"uploaded meanwhile", indexed=False)
    ended = dataset.wait(late)
    assert (ended["state"], ended["error"]["code"]) == ("Failed", "output-exists")
    assert dataset.client.get(f"{dataset.address}/obj/late.tif").content == b"uploaded meanwhile"

    assert dataset.client.get(output).content == b"the old content"
    task = dataset.run("align-raster", ALIGN | {"overwrite": True})
    assert task["state"] == "Succeeded"
    assert task["result"]["replaced"] == [{"path": "aligned.tif", "hash": old["hash"]}]
    assert task["result"]["replacedCount"] == 1
    assert dataset.client.get(output).content.startswith(b"II*\0")

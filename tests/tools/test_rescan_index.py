"""rescan-index against folders of files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.metadata.photo_files import exif_block, write_photo
from tests.metadata.vectors import write_points

from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.metadata.extract import extract_metadata
from aerotask.sdk.testing import ToolHarness, ToolOutcome
from aerotask.tools.rescan_index import RescanIndex


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A photo, a shapefile with its side files in a folder, a text, and a cloud that isn't one."""
    folder = tmp_path / "dataset"
    (folder / "maps").mkdir(parents=True)
    write_photo(folder / "photo.jpg", exif=exif_block({"Make": "DJI"}))
    write_points(folder / "maps" / "points.shp")
    (folder / "notes.md").write_text("# Notes")
    (folder / "cloud.laz").write_bytes(b"no cloud")
    return folder


def harness(dataset: Path) -> ToolHarness:
    workdir = dataset.parent / "work"
    workdir.mkdir(exist_ok=True)

    def index(path: Path) -> tuple[str, dict[str, Any]]:
        found = extract_metadata(path)
        return found.type, dict(found.properties)

    return ToolHarness(dataset, workdir, describe=index)


def rescan(dataset: Path, **params: Any) -> ToolOutcome:
    return harness(dataset).run(RescanIndex(), params)


def test_every_entry_is_described_and_what_can_not_be_read_is_listed(dataset: Path) -> None:
    outcome = rescan(dataset)
    said = {description.at: description for description in outcome.changes.descriptions}
    assert {at: str(description.type) for at, description in said.items()} == {
        "cloud.laz": "generic",
        "maps/points.cpg": "generic",
        "maps/points.dbf": "generic",
        "maps/points.prj": "generic",
        "maps/points.shp": "vector",
        "maps/points.shx": "generic",
        "notes.md": "markdown",
        "photo.jpg": "image",
    }
    assert outcome.result == {
        "total": 8,
        "ok": 7,
        "failed": [
            {
                "path": "cloud.laz",
                "error": "'cloud.laz' is not a readable point cloud: it is neither LAS, LAZ nor E57.",
            }
        ],
    }
    photo = said["photo.jpg"]
    assert photo.properties["make"] == "DJI"
    assert photo.sha256 == hashlib.sha256((dataset / "photo.jpg").read_bytes()).hexdigest()
    assert said["maps/points.shp"].properties["featureCount"] == 2
    assert said["cloud.laz"].properties["indexError"]["code"] == "unreadable-cloud"


def test_the_plan_reads_every_file_and_may_change_all(dataset: Path) -> None:
    plan = harness(dataset).check(RescanIndex(), {})
    assert len(plan.reads) == 8
    assert plan.writes == ("",)


def test_types_choose_in_any_case_and_bring_side_files_along(dataset: Path) -> None:
    outcome = rescan(dataset, types="VECTOR, Image")
    assert {description.at for description in outcome.changes.descriptions} == {
        "maps/points.shp",
        "photo.jpg",
    }
    assert outcome.result == {"total": 2, "ok": 2, "failed": []}
    assert "maps/points.shx" in outcome.plan.reads
    assert "notes.md" not in outcome.plan.reads


def test_an_unknown_type_is_refused_at_submit(dataset: Path) -> None:
    with pytest.raises(
        InvalidInput,
        match=r"no entry type 'raster' \(did you mean 'geoRaster'\?\); the types are directory, generic",
    ) as caught:
        harness(dataset).check(RescanIndex(), {"types": "image,raster"})
    assert caught.value.code == "unknown-type"


def test_stop_on_error_fails_and_names_the_entry(dataset: Path) -> None:
    with pytest.raises(TaskFailed, match=r"'cloud\.laz' can't be read, so nothing was changed") as caught:
        rescan(dataset, stopOnError=True)
    assert caught.value.code == "unreadable-entry"


def test_stop_on_error_does_not_stop_without_one(dataset: Path) -> None:
    (dataset / "cloud.laz").unlink()
    assert rescan(dataset, stopOnError=True).result["ok"] == 7


def test_an_empty_dataset_is_done_at_once(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    assert rescan(tmp_path / "dataset").result == {"total": 0, "ok": 0, "failed": []}


def test_progress_rises_to_the_end_and_the_log_lists_the_findings(dataset: Path) -> None:
    outcome = rescan(dataset)
    fractions = [event.fraction for event in outcome.progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert outcome.log[0] == "Reading 8 entries again, 2 at a time."
    assert outcome.log[-1] == "7 of 8 entries could be read: 4 generic, 1 image, 1 markdown, 1 vector."


def test_a_damaged_file_is_listed_and_not_described(dataset: Path) -> None:
    damaged = replace(harness(dataset), recorded={"notes.md": "0" * 64})
    outcome = damaged.run(RescanIndex(), {})
    assert "notes.md" not in {description.at for description in outcome.changes.descriptions}
    assert (outcome.result["total"], outcome.result["ok"]) == (8, 6)
    assert [failure["path"] for failure in outcome.result["failed"]] == ["cloud.laz", "notes.md"]
    with pytest.raises(TaskFailed) as caught:
        replace(harness(dataset), recorded={"photo.jpg": "0" * 64}).run(
            RescanIndex(), {"types": "image", "stopOnError": True}
        )
    assert caught.value.code == "content-damaged"

"""Tool build over a folder with files of every kind: refusals, plans, derivatives and results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pyogrio
import pytest
from rio_cogeo.cogeo import cog_validate
from tests.derivatives.clouds import hills, write_cloud
from tests.derivatives.test_nxz import HUGE, INSTALLED, TETRAHEDRON, needs_meshlab
from tests.derivatives.test_vectors import write_trees
from tests.derivatives.vectors import endless
from tests.metadata.vectors import write_points
from tests.raster.rasters import slope, write_raster

from aerotask.derivatives.builder import TimeoutPolicy
from aerotask.derivatives.kinds import KIND_INFO, DerivativeKind
from aerotask.derivatives.run_build import run_build
from aerotask.derivatives.sources import source_key
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.sdk import Cancelled, DatasetView, EntryView
from aerotask.sdk.run import LogLine, Run, RunProgress
from aerotask.sdk.testing import ToolHarness, ToolOutcome
from aerotask.tools.build import Build, BuildParams

TOOL = Build()
EXPECTED = {
    ("cloud.laz", "copc"),
    ("field.tif", "cog"),
    ("maps/parcels.geojson", "pmtiles"),
    ("maps/parcels.geojson", "gpkg"),
    ("maps/roads.shp", "pmtiles"),
    ("maps/roads.shp", "gpkg"),
} | ({("model.obj", "nxz")} if INSTALLED else set())


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    """A dataset with one file of each kind, and some files without derivatives."""
    dataset, workdir = tmp_path / "dataset", tmp_path / "work"
    (dataset / "maps").mkdir(parents=True)
    workdir.mkdir()
    write_raster(dataset / "field.tif", slope((300, 260)), nodata=-1)
    write_cloud(dataset / "cloud.laz", hills(2000))
    write_trees(dataset / "maps" / "parcels.geojson", driver="GeoJSON")
    write_trees(dataset / "maps" / "roads.shp", driver="ESRI Shapefile")
    (dataset / "model.obj").write_text(TETRAHEDRON, encoding="ascii")
    (dataset / "notes.md").write_text("# Notes", encoding="utf-8")
    return ToolHarness(dataset, workdir)


def outcomes(outcome: ToolOutcome) -> dict[tuple[str, str], str]:
    return {(each["path"], each["kind"]): each["outcome"] for each in outcome.result["derivatives"]}


def kept(outcome: ToolOutcome) -> dict[tuple[str, str], Path]:
    return {(made.of, made.kind): made.content for made in outcome.changes.derivatives}


def view_of(harness: ToolHarness, *paths: str, **changes: Any) -> DatasetView:
    view = harness.view()
    return DatasetView(view.slug, {path: view.entries[path] for path in paths or view.entries}, **changes)


def test_a_dataset_gets_every_derivative_it_lacks(harness: ToolHarness) -> None:
    outcome = harness.run(TOOL, {})
    made = kept(outcome)
    assert made.keys() == EXPECTED
    assert outcome.result["built"] == len(EXPECTED)
    assert cog_validate(made["field.tif", "cog"])[0]
    with laspy.CopcReader.open(str(made["cloud.laz", "copc"])) as reader:
        assert reader.header.point_count == 2000
    assert pyogrio.read_info(made["maps/roads.shp", "gpkg"])["features"] == 60
    assert pyogrio.read_info(made["maps/parcels.geojson", "pmtiles"])["driver"] == "PMTiles"
    assert json.loads(json.dumps(outcome.result, allow_nan=False)) == outcome.result
    assert outcome.changes.edits == ()


def test_the_plan_names_what_is_read_and_what_it_changes(harness: ToolHarness) -> None:
    plan = harness.check(TOOL, {})
    entries = ("cloud.laz", "field.tif", "maps/parcels.geojson", "maps/roads.shp", "model.obj")
    assert plan.writes == entries
    beside = [f"maps/roads.{suffix}" for suffix in ("cpg", "dbf", "prj", "shx")]
    assert sorted(plan.reads) == sorted([*entries, *beside])
    assert harness.check(TOOL, {"path": "maps"}).writes == entries[2:4]
    alone = harness.check(TOOL, {"path": "field.tif"})
    assert alone.reads == alone.writes == ("field.tif",)
    assert alone.estimated_output_bytes == max(64 * 1024, 6 * (harness.dataset / "field.tif").stat().st_size)


def test_very_many_entries_are_named_by_their_folder(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(101):
        (tmp_path / "many" / f"{number}.laz").write_bytes(b"x")
    harness = ToolHarness(tmp_path, tmp_path)
    assert harness.check(TOOL, {"path": "many"}).writes == ("many",)
    assert harness.check(TOOL, {}).writes == ("",)


def test_the_parameters_name_what_the_platform_must_fetch() -> None:
    assert BuildParams().entry_paths() == ("",)
    assert BuildParams(path="a/b.laz").entry_paths() == ("a/b.laz",)
    assert "a/b.tfw" in BuildParams(path="a/b.tif").entry_paths()
    assert "a/b.shx" in BuildParams(path="a/b.shp").entry_paths()


def test_what_has_been_made_of_the_same_content_is_not_planned_again(harness: ToolHarness) -> None:
    entries = harness.view().entries
    hashes = {path: entry.sha256 for path, entry in entries.items()}
    everything = {
        (source_key(path, hashes), kind, KIND_INFO[kind].builder)
        for path, kinds in {
            "field.tif": [DerivativeKind.COG],
            "cloud.laz": [DerivativeKind.COPC],
            "model.obj": [DerivativeKind.NXZ],
            "maps/roads.shp": [DerivativeKind.PMTILES, DerivativeKind.GPKG],
            "maps/parcels.geojson": [DerivativeKind.PMTILES],
        }.items()
        for kind in kinds
    }
    derived = frozenset(everything)
    assert TOOL.plan(BuildParams(), view_of(harness, derived=derived)).writes == ("maps/parcels.geojson",)
    older = frozenset((key, kind, "0") for key, kind, _ in derived)
    assert len(TOOL.plan(BuildParams(), view_of(harness, derived=older)).writes) == 5
    assert len(TOOL.plan(BuildParams(force=True), view_of(harness, derived=derived)).writes) == 5
    (harness.dataset / "maps" / "roads.dbf").write_bytes(b"other attributes")
    assert "maps/roads.shp" in TOOL.plan(BuildParams(), view_of(harness, derived=derived)).writes


def run_with(
    harness: ToolHarness, derived: frozenset[tuple[str, str, str]], **params: Any
) -> Mapping[str, Any]:
    """The result of a run that knows the existing derivatives."""
    events: list[RunProgress | LogLine] = []
    run = Run(
        inputs={"cloud.laz": harness.dataset / "cloud.laz"},
        workdir=harness.workdir,
        threads=1,
        emit=events.append,
        derived=derived,
    )
    TOOL.run(BuildParams(path="cloud.laz", **params), run)
    return run.changes().result or {}


def test_what_another_task_has_made_meanwhile_is_not_made_again(harness: ToolHarness) -> None:
    there = frozenset({("cloud.laz", "copc", KIND_INFO[DerivativeKind.COPC].builder)})
    assert run_with(harness, there)["derivatives"] == [
        {"path": "cloud.laz", "kind": "copc", "outcome": "present"}
    ]
    assert run_with(harness, there, force=True)["built"] == 1


BAD: dict[str, bytes] = {
    "bad/empty.tif": b"",
    "bad/empty.laz": b"",
    "bad/empty.geojson": b"",
    "bad/empty.shp": b"",
    "bad/empty.ply": b"",
    "bad/huge.ply": HUGE,
    "bad/text.tif": b"no raster",
}


def test_damaged_entries_are_listed_and_stop_no_other(harness: ToolHarness) -> None:
    (harness.dataset / "bad").mkdir()
    for name, content in BAD.items():
        (harness.dataset / name).write_bytes(content)
    whole = (harness.dataset / "cloud.laz").read_bytes()
    (harness.dataset / "bad" / "half.laz").write_bytes(whole[: len(whole) // 2])
    roads = (harness.dataset / "maps" / "roads.shp").read_bytes()
    (harness.dataset / "bad" / "lonely.shp").write_bytes(roads)
    before = {path: path.read_bytes() for path in harness.dataset.rglob("*") if path.is_file()}

    outcome = harness.run(TOOL, {})
    assert kept(outcome).keys() == EXPECTED
    failures = {
        (each["path"], each["kind"]): each
        for each in outcome.result["derivatives"]
        if each["outcome"] == "failed" and each["path"].startswith("bad/")
    }
    assert {path for path, _ in failures} == {*BAD, "bad/half.laz", "bad/lonely.shp"}
    assert failures["bad/half.laz", "copc"]["code"] == "unreadable-cloud"
    assert failures["bad/lonely.shp", "gpkg"]["code"] == "missing-side-file"
    assert "'lonely.shx'" in failures["bad/lonely.shp", "gpkg"]["message"]
    assert all(each["message"].endswith(".") for each in failures.values())
    assert any("half.laz" in line for line in outcome.log)
    assert {path: path.read_bytes() for path in harness.dataset.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("notes.md", "nothing-to-build"),
        ("absent.tif", "no-such-entry"),
        ("maps/lonely.shp", "missing-side-file"),
    ],
)
def test_what_can_not_work_is_refused_at_submit(harness: ToolHarness, path: str, code: str) -> None:
    (harness.dataset / "maps" / "lonely.shp").write_bytes(b"x")
    with pytest.raises(InvalidInput) as refused:
        harness.check(TOOL, {"path": path})
    assert refused.value.code == code


@pytest.mark.skipif(INSTALLED, reason="pymeshlab is installed")
def test_a_mesh_without_meshlab_is_refused_at_submit_and_listed_as_failed_for_a_dataset(
    harness: ToolHarness,
) -> None:
    with pytest.raises(InvalidInput, match="pip install pymeshlab") as refused:
        harness.check(TOOL, {"path": "model.obj"})
    assert refused.value.code == "derivative-unavailable"
    [failed] = [each for each in harness.run(TOOL, {}).result["derivatives"] if each["path"] == "model.obj"]
    assert (failed["outcome"], failed["code"]) == ("failed", "derivative-unavailable")


@needs_meshlab
def test_a_mesh_is_built_by_name(harness: ToolHarness) -> None:
    assert outcomes(harness.run(TOOL, {"path": "model.obj"})) == {("model.obj", "nxz"): "built"}


def test_a_task_for_one_entry_that_gets_nothing_fails(harness: ToolHarness) -> None:
    (harness.dataset / "a.laz").write_bytes(b"no cloud")
    with pytest.raises(InvalidInput) as refused:
        harness.run(TOOL, {"path": "a.laz"})
    assert refused.value.code == "unreadable-cloud"


def test_one_kind_may_fail_where_the_other_is_made(harness: ToolHarness) -> None:
    (harness.dataset / "maps" / "roads.prj").unlink()
    assert outcomes(harness.run(TOOL, {"path": "maps/roads.shp"})) == {
        ("maps/roads.shp", "pmtiles"): "skipped",
        ("maps/roads.shp", "gpkg"): "built",
    }


def test_a_plain_image_is_passed_over_in_a_dataset(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "photo.tif", slope((40, 40)), crs=None)
    assert outcomes(harness.run(TOOL, {}))["photo.tif", "cog"] == "skipped"
    indexed = ToolHarness(harness.dataset, harness.workdir, describe=lambda _path: ("image", {}))
    assert "photo.tif" not in indexed.check(TOOL, {}).reads
    with pytest.raises(InvalidInput) as refused:
        indexed.check(TOOL, {"path": "photo.tif"})
    assert refused.value.code == "nothing-to-build"


def test_the_index_decides_by_type_what_is_made_of_an_entry() -> None:
    known = {
        "s2.jp2": ("geoRaster", {}),
        "ortho": ("geoRaster", {}),
        "plan.jpg": ("image", {}),
        "scan.data": ("pointCloud", {"format": "laz"}),
        "hall.e57": ("pointCloud", {"format": "e57"}),
        "cloud.ply": ("pointCloud", {"format": "ply"}),
        "mesh.ply": ("model", {"format": "ply"}),
        "mesh.gltf": ("model", {"format": "gltf"}),
        "roads": ("vector", {"driver": "FlatGeobuf"}),
        "notes.tif": ("generic", {}),
    }
    view = DatasetView(
        "a",
        {
            path: EntryView(path, kind, "0" * 64, 9, indexed=True, properties=properties)
            for path, (kind, properties) in known.items()
        },
    )
    assert TOOL.plan(BuildParams(), view).writes == ("mesh.ply", "ortho", "roads", "s2.jp2", "scan.data")


def test_entries_are_made_whatever_they_are_called(harness: ToolHarness) -> None:
    for path in list(harness.dataset.iterdir()):
        if path.name not in {"cloud.laz", "field.tif"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (harness.dataset / "cloud.laz").rename(harness.dataset / "scan.data")
    (harness.dataset / "field.tif").rename(harness.dataset / "ortho")
    write_points(harness.dataset / "roads.fgb").rename(harness.dataset / "roads")
    kinds = {"scan.data": "pointCloud", "ortho": "geoRaster", "roads": "vector"}
    about = {"scan.data": {"format": "laz"}}
    indexed = ToolHarness(
        harness.dataset,
        harness.workdir,
        describe=lambda path: (kinds[path.name], about.get(path.name, {})),
    )
    assert outcomes(indexed.run(TOOL, {})) == {
        ("scan.data", "copc"): "built",
        ("ortho", "cog"): "built",
        ("roads", "pmtiles"): "built",
        ("roads", "gpkg"): "built",
    }


def test_an_endless_entry_fails_and_the_others_are_built(harness: ToolHarness) -> None:
    inputs = {
        "endless.gpkg": endless(harness.dataset / "endless.gpkg"),
        "cloud.laz": harness.dataset / "cloud.laz",
    }
    run = Run(inputs=inputs, workdir=harness.workdir, threads=1, emit=lambda _event: None)
    run_build(run, only=None, force=False, timeouts=TimeoutPolicy(min_s=5))
    outcomes = (run.changes().result or {})["derivatives"]
    assert {(each["path"], each["kind"]): each.get("code", each["outcome"]) for each in outcomes} == {
        ("endless.gpkg", "pmtiles"): "build-timed-out",
        ("endless.gpkg", "gpkg"): "build-timed-out",
        ("cloud.laz", "copc"): "built",
    }


def test_progress_rises_with_the_work(harness: ToolHarness) -> None:
    steps = harness.run(TOOL, {}).progress
    assert all(before.fraction <= after.fraction for before, after in pairwise(steps))
    assert steps[-1].fraction == pytest.approx(1)
    phases = list(dict.fromkeys(step.phase for step in steps if step.phase))
    assert "cog of field.tif" in phases


def test_a_cancelled_build_stops_at_once(harness: ToolHarness) -> None:
    def cancel(event: RunProgress | LogLine) -> None:
        if isinstance(event, RunProgress) and event.fraction > 0:
            raise Cancelled

    run = Run(
        inputs={"cloud.laz": harness.dataset / "cloud.laz"}, workdir=harness.workdir, threads=1, emit=cancel
    )
    with pytest.raises(Cancelled):
        TOOL.run(BuildParams(), run)
    assert run.changes().derivatives == ()


def test_a_run_may_only_give_derivatives_of_what_it_reads(harness: ToolHarness) -> None:
    run = Run(inputs={}, workdir=harness.workdir, threads=1, emit=lambda _event: None)
    (harness.workdir / "a").write_bytes(b"a")
    with pytest.raises(TaskFailed):
        run.put_derivative(harness.workdir / "a", of="other.tif", kind="cog", builder="1", properties={})


def test_an_empty_dataset_needs_nothing(tmp_path: Path) -> None:
    harness = ToolHarness(tmp_path, tmp_path)
    assert harness.run(TOOL, {}).result == {
        "built": 0,
        "present": 0,
        "skipped": 0,
        "failed": 0,
        "derivatives": [],
    }


def test_real_files_of_every_kind(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    outcome = ToolHarness(real_data / "demo", tmp_path / "work").run(TOOL, {})
    built = {each for each, how in outcomes(outcome).items() if how == "built"}
    assert {("orthophoto.tif", "cog"), ("orthophoto-2025.tif", "cog"), ("point_cloud.laz", "copc")} <= built
    assert np.all([path.stat().st_size > 1000 for path in kept(outcome).values()])

"""Tool build over a folder with files of every kind: refusals, plans, derivatives and results."""

from __future__ import annotations

import hashlib
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
from tests.derivatives.glb.meshes import images_of, write_odm
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
    ("model.obj", "glb"),
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


def afresh(harness: ToolHarness) -> ToolHarness:
    """The same dataset with an empty folder for work."""
    workdir = harness.workdir.with_name(f"work{len(list(harness.workdir.parent.iterdir()))}")
    workdir.mkdir()
    return ToolHarness(harness.dataset, workdir)


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
            "model.obj": [DerivativeKind.GLB, *([DerivativeKind.NXZ] if INSTALLED else [])],
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
    harness: ToolHarness,
    derived: frozenset[tuple[str, str, str]],
    since_submit: frozenset[tuple[str, str, str]] = frozenset(),
    **params: Any,
) -> Mapping[str, Any]:
    """The result of a run that knows the existing derivatives."""
    events: list[RunProgress | LogLine] = []
    run = Run(
        inputs={"cloud.laz": harness.dataset / "cloud.laz"},
        workdir=harness.workdir,
        threads=1,
        emit=events.append,
        derived=derived,
        derived_since_submit=since_submit,
    )
    TOOL.run(BuildParams(path="cloud.laz", **params), run)
    return run.changes().result or {}


def test_what_another_task_has_made_meanwhile_is_not_made_again(harness: ToolHarness) -> None:
    there = frozenset({("cloud.laz", "copc", KIND_INFO[DerivativeKind.COPC].builder)})
    assert run_with(harness, there)["derivatives"] == [
        {"path": "cloud.laz", "kind": "copc", "outcome": "present"}
    ]
    assert run_with(harness, there, force=True)["built"] == 1


def test_a_forced_build_that_is_taken_over_does_not_build_again_what_it_has_published(
    harness: ToolHarness,
) -> None:
    there = frozenset({("cloud.laz", "copc", KIND_INFO[DerivativeKind.COPC].builder)})
    assert run_with(harness, there, since_submit=there, force=True)["present"] == 1


def test_equal_content_is_built_once_and_each_entry_is_listed(harness: ToolHarness) -> None:
    whole = (harness.dataset / "cloud.laz").read_bytes()
    for name in ("copy.laz", "maps/copy.laz"):
        (harness.dataset / name).write_bytes(whole)
    for name in ("half-1.laz", "half-2.laz"):
        (harness.dataset / name).write_bytes(whole[: len(whole) // 2])
    outcome = harness.run(TOOL, {})
    listed = {each["path"]: each for each in outcome.result["derivatives"] if each["kind"] == "copc"}
    assert {path: each["outcome"] for path, each in listed.items()} == {
        "cloud.laz": "built",
        "copy.laz": "built",
        "maps/copy.laz": "built",
        "half-1.laz": "failed",
        "half-2.laz": "failed",
    }
    assert {path: each.get("sameContentAs") for path, each in listed.items()} == {
        "cloud.laz": None,
        "copy.laz": "cloud.laz",
        "maps/copy.laz": "cloud.laz",
        "half-1.laz": None,
        "half-2.laz": "half-1.laz",
    }
    assert listed["half-2.laz"]["code"] == "unreadable-cloud"
    assert [of for of, kind in kept(outcome) if kind == "copc"] == ["cloud.laz"]
    assert sum(line.startswith("Building copc") for line in outcome.log) == 2


def test_a_damaged_copy_says_nothing_about_the_others(harness: ToolHarness) -> None:
    whole = (harness.dataset / "cloud.laz").read_bytes()
    (harness.dataset / "a.laz").write_bytes(b"damaged" + whole[7:])
    recorded = {"a.laz": hashlib.sha256(whole).hexdigest()}
    outcome = ToolHarness(harness.dataset, harness.workdir, recorded=recorded).run(TOOL, {})
    assert outcomes(outcome)["a.laz", "copc"] == "failed"
    assert outcomes(outcome)["cloud.laz", "copc"] == "built"


def test_shapefiles_with_other_attributes_are_built_each(harness: ToolHarness) -> None:
    for part in list((harness.dataset / "maps").glob("roads.*")):
        shutil.copyfile(part, part.with_name(f"paths{part.suffix}"))
    same = harness.run(TOOL, {"path": "maps"}).result["derivatives"]
    assert {each["path"] for each in same if "sameContentAs" in each} == {"maps/roads.shp"}
    table = harness.dataset / "maps" / "paths.dbf"
    table.write_bytes(table.read_bytes().replace(b"tree", b"bush"))
    other = ToolHarness(harness.dataset, harness.workdir.parent / "other")
    other.workdir.mkdir()
    assert not [each for each in other.run(TOOL, {}).result["derivatives"] if "sameContentAs" in each]


def test_the_result_has_a_warning_for_each_failure_and_each_warning_of_a_derivative(
    harness: ToolHarness,
) -> None:
    (harness.dataset / "bad.laz").write_bytes(b"no cloud")
    write_raster(harness.dataset / "photo.tif", slope((40, 40)), crs=None)
    result = harness.run(TOOL, {}).result
    failed = [each for each in result["derivatives"] if each["outcome"] == "failed"]
    of_derivatives = [line for each in result["derivatives"] for line in each.get("warnings", ())]
    assert len(failed) == result["failed"] >= 1
    assert len(result["warnings"]) == len(failed) + len(of_derivatives)
    [about] = [line for line in result["warnings"] if "bad.laz" in line]
    assert about.startswith("'bad.laz', copc: ")


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
@pytest.mark.parametrize("params", [{}, {"path": "model.obj"}])
def test_without_meshlab_a_mesh_has_its_glb_and_the_missing_library_is_named(
    harness: ToolHarness, params: dict[str, str]
) -> None:
    result = harness.run(TOOL, params).result
    glb, nxz = (each for each in result["derivatives"] if each["path"] == "model.obj")
    assert (glb["kind"], glb["outcome"], result["failed"]) == ("glb", "built", 0)
    assert (nxz["outcome"], nxz["code"]) == ("skipped", "derivative-unavailable")
    assert "pip install pymeshlab" in nxz["message"]


@needs_meshlab
def test_a_mesh_is_built_by_name(harness: ToolHarness) -> None:
    assert outcomes(harness.run(TOOL, {"path": "model.obj"})) == {
        ("model.obj", "glb"): "built",
        ("model.obj", "nxz"): "built",
    }


ODM = "odm_textured_model_geo"


def test_a_mesh_is_built_with_its_library_and_textures(harness: ToolHarness) -> None:
    mesh = write_odm(harness.dataset / "odm").relative_to(harness.dataset).as_posix()
    beside = [f"odm/{ODM}.mtl", *(f"odm/{ODM}_material000{number}_map_Kd.png" for number in (0, 1))]
    assert harness.check(TOOL, {"path": mesh}).reads == (mesh, *beside)
    assert harness.check(TOOL, {"path": mesh}).writes == (mesh,)
    for params in ({"path": mesh}, {"path": "odm"}):
        outcome = afresh(harness).run(TOOL, params)
        made = kept(outcome)[mesh, "glb"]
        assert [image.size for image in images_of(made)] == [(96, 64), (96, 64)]
        assert {path for path, _ in outcomes(outcome)} == {mesh}
        assert not any("map_Kd" in line for line in outcome.log)


def test_a_raster_whose_name_begins_like_a_meshs_is_built_too(harness: ToolHarness) -> None:
    (harness.dataset / "field.obj").write_text(TETRAHEDRON, encoding="ascii")
    assert outcomes(harness.run(TOOL, {}))["field.tif", "cog"] == "built"
    assert ("field.tif", "cog") not in outcomes(afresh(harness).run(TOOL, {"path": "field.obj"}))


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
        "warnings": [],
        "derivatives": [],
    }


def test_real_files_of_every_kind(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    outcome = ToolHarness(real_data / "demo", tmp_path / "work").run(TOOL, {})
    built = {each for each, how in outcomes(outcome).items() if how == "built"}
    assert {("orthophoto.tif", "cog"), ("orthophoto-2025.tif", "cog"), ("point_cloud.laz", "copc")} <= built
    assert np.all([path.stat().st_size > 1000 for path in kept(outcome).values()])

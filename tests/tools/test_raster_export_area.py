"""raster-export of a part of the raster, as a tool: checks at submit, plan, run and result."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from pydantic import ValidationError
from shapely.geometry import mapping
from tests.raster.rasters import read, write_raster
from tests.tools.raster_harness import index

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.extract import extract_metadata
from aerotask.metadata.ogr import pyogrio
from aerotask.sdk import DatasetView, EntryView
from aerotask.sdk.testing import ToolHarness
from aerotask.tools.raster_export import RasterExport, RasterExportParams

TOOL = RasterExport()
FIELD = shapely.box(500_020, 4_999_900, 500_060, 4_999_980)
"""Columns 40 to 119 and rows 40 to 199."""
DEGREES = {"type": "Polygon", "coordinates": [[[9.0003, 45.1535], [9.001, 45.1535], [9.0007, 45.153]]]}


def described(path: Path) -> tuple[str, Mapping[str, Any]]:
    if path.suffix in {".tif", ".jpg"}:
        return index(path)
    found = extract_metadata(path)
    return found.type, found.properties


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("area") / "dataset"
    folder.mkdir()
    pixels = np.random.default_rng(9).integers(100, 9000, (4, 300, 400)).astype(np.uint16)
    write_raster(folder / "field.tif", pixels, descriptions=["red", "green", "blue", "nir"], nodata=0)
    write_raster(folder / "plain.tif", pixels[:1], crs=None, transform=None)
    vector(folder / "field.gpkg", FIELD)
    vector(folder / "field.shp", FIELD)
    vector(folder / "far.gpkg", shapely.box(0, 0, 1, 1))
    vector(folder / "path.gpkg", shapely.LineString([(0, 0), (1, 1)]))
    vector(folder / "no_crs.gpkg", FIELD, crs=None)
    (folder / "notes.md").write_text("# Notes")
    return folder


def vector(path: Path, geometry: Any, crs: str | None = "EPSG:32632") -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.raw.write(
            path,
            geometry=shapely.to_wkb(np.array([geometry])),
            field_data=[],
            fields=[],
            geometry_type=geometry.geom_type,
            crs=crs,
        )


@pytest.fixture
def harness(dataset: Path, tmp_path: Path) -> ToolHarness:
    return ToolHarness(dataset, tmp_path, describe=described)


BOX = {"bbox": [500_020, 4_999_900, 500_060, 4_999_980], "bboxCrs": "EPSG:32632"}


@pytest.mark.parametrize("area", [BOX, {"cutline": "field.gpkg"}, {"cutline": "field.shp"}])
def test_a_part_is_exported_with_all_facts(harness: ToolHarness, area: dict[str, Any]) -> None:
    outcome = harness.run(TOOL, {"path": "field.tif", "formula": "NDVI"} | area)
    result = outcome.result
    assert [result[key] for key in ("left", "top", "width", "height", "validPixels")] == [
        40,
        40,
        80,
        160,
        80 * 160,
    ]
    assert result["warnings"] == []
    with rasterio.open(outcome.artifact) as opened:
        assert opened.shape == (160, 80)
        assert opened.bounds == (500_020, 4_999_900, 500_060, 4_999_980)
    assert any(
        line.startswith("Exporting 80 × 160 pixels from column 40 and row 40 on") for line in outcome.log
    )
    assert outcome.plan.estimated_output_bytes == 64 * 1024


def test_the_estimate_is_that_of_the_area(harness: ToolHarness) -> None:
    area = {"bbox": [500_000, 4_999_850, 500_150, 5_000_000], "bboxCrs": "EPSG:32632"}
    plan = harness.check(TOOL, {"path": "field.tif", "formula": "NDVI"} | area)
    assert plan.estimated_output_bytes == 300 * 300 * 2


def test_the_task_reads_the_cutline_and_its_side_files(harness: ToolHarness) -> None:
    # `field.prj` may be the raster's side file too.
    raster = {"field.tif", "field.prj"}
    reads = harness.check(TOOL, {"path": "field.tif", "cutline": "field.gpkg"}).reads
    assert set(reads) == {*raster, "field.gpkg"}
    reads = harness.check(TOOL, {"path": "field.tif", "cutline": "field.shp"}).reads
    assert set(reads) == {*raster, "field.shp", "field.shx", "field.dbf", "field.cpg"}


def test_geojson_is_a_cutline(harness: ToolHarness) -> None:
    outcome = harness.run(TOOL, {"path": "field.tif", "bands": "1", "cutline": DEGREES})
    pixels = read(outcome.artifact)
    assert 0.3 < (pixels[3] > 0).mean() < 0.7
    assert outcome.result["validPixels"] == (pixels[3] > 0).sum()
    assert "percentile of the area, from all pixels" in outcome.log[-2]


def test_what_lies_beyond_the_raster_and_what_is_no_polygon_cause_warnings(harness: ToolHarness) -> None:
    beyond = {"type": "Polygon", "coordinates": [[[8, 45.153], [10, 45.153], [10, 45.1535], [8, 45.1535]]]}
    both = {"type": "GeometryCollection", "geometries": [beyond, {"type": "Point", "coordinates": [9, 45]}]}
    result = harness.run(TOOL, {"path": "field.tif", "bands": "1", "cutline": both}).result
    assert result["warnings"] == [
        "The area reaches beyond the raster; only the part within it is exported.",
        "Of the cutline, only the polygons were used; left out: 1 Point.",
    ]


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"bbox": [10, 46, 11, 47]}, "outside-raster", "lies outside of the raster"),
        ({"bbox": [1, 2, 0, 1]}, "invalid-bbox", "smallest y"),
        ({"bbox": [9, 45, 10, 46], "path": "plain.tif"}, "not-georeferenced", "no coordinate system"),
        ({"bbox": [9, 45, 10, 46], "cutline": DEGREES}, "area-conflict", "not both"),
        ({"cutline": DEGREES, "path": "plain.tif"}, "not-georeferenced", "no coordinate system"),
        ({"cutline": {"type": "Point", "coordinates": [9, 45]}}, "invalid-cutline", "1 Point"),
        ({"cutline": mapping(shapely.box(1, 1, 2, 2))}, "outside-raster", "The cutline lies outside"),
        ({"cutline": "path.gpkg"}, "invalid-cutline", "1 LineString features"),
        ({"cutline": "no_crs.gpkg"}, "not-georeferenced", "names no coordinate system"),
        ({"cutline": "far.gpkg"}, "outside-raster", "The cutline lies outside"),
        ({"cutline": "notes.md"}, "not-a-vector", "is not a vector file"),
        ({"cutline": "field.tif"}, "not-a-vector", "is not a vector file"),
        ({"cutline": "absent.gpkg"}, "no-such-entry", "no entry"),
        ({"dataType": "int16", "formula": "NDVI"}, "data-type-impossible", "int16"),
    ],
)
def test_an_area_that_cannot_be_exported_is_refused_at_submit(
    harness: ToolHarness, params: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        harness.check(TOOL, {"path": "field.tif"} | params)
    assert (caught.value.code, words in caught.value.message) == (code, True)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"bbox": [10, 46, 11, 47]}, "outside-raster"),
        ({"cutline": "path.gpkg"}, "invalid-cutline"),
        ({"cutline": "no_crs.gpkg"}, "not-georeferenced"),
        ({"cutline": "far.gpkg"}, "outside-raster"),
        ({"cutline": "notes.md"}, "unreadable-vector"),
    ],
)
def test_before_indexing_the_run_refuses(
    dataset: Path, tmp_path: Path, params: dict[str, Any], code: str
) -> None:
    early = ToolHarness(dataset, tmp_path)
    early.check(TOOL, {"path": "field.tif"} | params)
    with pytest.raises(InvalidInput) as caught:
        early.run(TOOL, {"path": "field.tif"} | params)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "params",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": "1,2,3,4"},
        {"bbox": [1, 2, 3, 4], "bboxCrs": "+proj=longlat"},
        {"cutline": ["field.gpkg"]},
        {"cutline": "../field.gpkg"},
        {"dataType": "uint8"},
    ],
)
def test_parameters_that_violate_the_schema_are_refused(harness: ToolHarness, params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        harness.check(TOOL, {"path": "field.tif"} | params)


@pytest.mark.parametrize(
    ("name", "mib", "allowed"), [("a.kml", 17, False), ("a.gpkg", 17, True), ("a.gpkg", 33, False)]
)
def test_a_large_file_is_refused_at_submit(name: str, mib: int, *, allowed: bool) -> None:
    entries = {
        "a.tif": EntryView("a.tif", "geoRaster", "0", 9, indexed=False),
        name: EntryView(name, "vector", "0", mib * 1024**2, indexed=False),
    }
    params = RasterExportParams.model_validate({"path": "a.tif", "cutline": name})
    with nullcontext() if allowed else pytest.raises(InvalidInput, match=f"'{name}' has {mib} MiB; at most"):
        TOOL.check(params, DatasetView("ds", entries))


def test_the_platform_is_told_which_entries_a_cutline_names() -> None:
    def named(cutline: Any) -> tuple[str, ...]:
        return RasterExportParams.model_validate({"path": "a.tif", "cutline": cutline}).entry_paths()

    raster = set(named(DEGREES))
    assert raster >= {"a.tif", "a.tfw", "a.prj"}
    assert set(named("b.gpkg")) - raster == {"b.gpkg"}
    assert set(named("b.shp")) - raster >= {"b.shp", "b.shx", "b.DBF", "b.prj"}

"""merge-multispectral as a tool: what it refuses, plans, does and tells."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from jsonschema import Draft202012Validator
from PIL import Image
from pydantic import ValidationError
from rasterio.transform import Affine, from_origin
from tests.metadata.photo_files import DJI, exif_block, write_photo, xmp_packet
from tests.raster.rasters import Pixels, read, write_raster

from aerotask.domain.errors import InvalidInput
from aerotask.metadata.extract import extract_metadata
from aerotask.raster.io import open_raster
from aerotask.sdk.changes import PutEntry
from aerotask.sdk.testing import ToolHarness, ToolOutcome
from aerotask.tools.merge_multispectral import MergeMultispectral, MergeMultispectralParams
from aerotask.tools.raster_export import RasterExport

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tools" / "merge-multispectral.md").read_text(
    encoding="utf-8"
)
TOOL = MergeMultispectral()
NAMES = ("blue", "green", "red", "nir", "rededge")
MERGE = {"paths": ["red.tif", "nir.tif"], "outputPath": "merged.tif"}
MM = {"FocalPlaneXResolution": 100.0, "FocalPlaneYResolution": 100.0, "FocalPlaneResolutionUnit": 4}


def index(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The index metadata of a file."""
    described = extract_metadata(path)
    return described.type, described.properties


def plane(seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(1, 60000, (1, 120, 200)).astype(np.uint16)


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    """A dataset with a red and a near infrared band."""
    dataset, workdir = tmp_path / "dataset", tmp_path / "work"
    dataset.mkdir()
    workdir.mkdir()
    for seed, name in enumerate(("red", "nir")):
        write_raster(dataset / f"{name}.tif", plane(seed), nodata=0, tiled=True)
    return ToolHarness(dataset, workdir, describe=index)


def run(harness: ToolHarness, **params: Any) -> ToolOutcome:
    return harness.run(TOOL, MERGE | params)


def output(outcome: ToolOutcome) -> Path:
    """The file that the run puts into the dataset."""
    (edit,) = outcome.changes.edits
    assert isinstance(edit, PutEntry)
    return edit.content


def refusals(harness: ToolHarness, **params: Any) -> tuple[InvalidInput, InvalidInput]:
    """The error at submit, and that of the run on files that aren't indexed."""
    with pytest.raises(InvalidInput) as at_submit:
        harness.check(TOOL, MERGE | params)
    with pytest.raises(InvalidInput) as in_run:
        ToolHarness(harness.dataset, harness.workdir).run(TOOL, MERGE | params)
    return at_submit.value, in_run.value


def test_two_bands_become_one_raster_pixel_for_pixel(harness: ToolHarness) -> None:
    outcome = run(harness)
    result = output(outcome)
    assert (read(result) == np.concatenate([plane(0), plane(1)])).all()
    (edit,) = outcome.changes.edits
    assert isinstance(edit, PutEntry)
    assert (edit.at, edit.existing, outcome.changes.artifacts) == ("merged.tif", "refuse", ())
    with rasterio.open(result) as opened:
        assert opened.descriptions == ("red", "nir")
        assert (opened.nodata, str(opened.crs)) == (0, "EPSG:32632")


def test_the_result_has_all_facts(harness: ToolHarness) -> None:
    outcome = run(harness)
    assert dict(outcome.result) == {
        "path": "merged.tif",
        "width": 200,
        "height": 120,
        "type": "uint16",
        "crs": "EPSG:32632",
        "bands": [
            {"name": "red", "path": "red.tif", "shift": [0, 0]},
            {"name": "nir", "path": "nir.tif", "shift": [0, 0]},
        ],
        "shiftedBy": None,
        "position": False,
        "sizeBytes": output(outcome).stat().st_size,
        "warnings": [],
    }
    assert json.loads(json.dumps(outcome.result, allow_nan=False)) == outcome.result


def test_the_log_and_the_progress_can_be_followed(harness: ToolHarness) -> None:
    outcome = run(harness)
    assert list(outcome.log[:3]) == [
        "Merging 2 files of 200 × 120 pixels of uint16, EPSG:32632.",
        "Band 1 is 'red' from 'red.tif'.",
        "Band 2 is 'nir' from 'nir.tif'.",
    ]
    assert re.fullmatch(r"Wrote 'merged.tif': 200 × 120 pixels, 2 bands, [\d.]+ MB.", outcome.log[3])
    fractions = [step.fraction for step in outcome.progress]
    assert fractions[-1] == 1
    assert all(later >= earlier for earlier, later in pairwise(fractions))
    assert {step.phase for step in outcome.progress} >= {"merging bands", "arranging the COG", "done"}


def test_the_order_of_the_paths_is_the_order_of_the_bands(harness: ToolHarness) -> None:
    result = output(run(harness, paths=["nir.tif", "red.tif"]))
    assert (read(result) == np.concatenate([plane(1), plane(0)])).all()


def test_indices_find_the_bands_of_a_merged_raster(harness: ToolHarness) -> None:
    result = output(run(harness))
    (harness.dataset / "merged.tif").write_bytes(result.read_bytes())
    exported = harness.run(RasterExport(), {"path": "merged.tif", "formula": "NDVI", "colormap": "none"})
    assert exported.result["bands"] == {"N": 2, "R": 1}
    red, nir = (plane(seed)[0].astype(np.float64) for seed in (0, 1))
    assert np.allclose(read(exported.artifact)[0], (nir - red) / (nir + red), atol=1e-6)


BAND = plane(5)
PLACED = from_origin(500_000, 5_000_000, 0.5, 0.5)


@pytest.mark.parametrize(
    ("code", "pixels", "options"),
    [
        ("not-single-band", np.concatenate([BAND, BAND]), {}),
        ("size-mismatch", BAND[:, :, :-1], {}),
        ("type-mismatch", BAND.astype(np.float32), {}),
        ("nodata-mismatch", BAND, {"nodata": 7}),
        ("crs-mismatch", BAND, {"crs": "EPSG:32633"}),
        ("crs-mismatch", BAND, {"crs": None}),
        ("mixed-georeference", BAND, {"crs": None, "transform": None}),
        ("rotated-raster", BAND, {"transform": PLACED * Affine.rotation(1)}),
        ("pixel-size-mismatch", BAND, {"transform": from_origin(500_000, 5_000_000, 0.53, 0.53)}),
        ("pixel-size-mismatch", BAND, {"transform": Affine(0.5, 0, 500_000, 0, 0.5, 5_000_000)}),
        ("origin-mismatch", BAND, {"transform": from_origin(500_000, 5_000_001, 0.5, 0.5)}),
    ],
)
def test_each_mismatch_is_refused_at_submit_and_in_the_run(
    harness: ToolHarness, code: str, pixels: Pixels, options: dict[str, Any]
) -> None:
    write_raster(harness.dataset / "nir.tif", pixels, **({"nodata": 0} | options))
    for refusal in refusals(harness):
        assert (refusal.code, [fault.pointer for fault in refusal.errors]) == (code, ["/params/paths/1"])
        assert refusal.message.startswith("'nir.tif' ")


def test_a_palette_and_complex_pixels_are_refused(harness: ToolHarness) -> None:
    Image.new("P", (200, 120)).save(harness.dataset / "red.tif")
    write_raster(harness.dataset / "nir.tif", BAND.astype(np.complex64))
    for refusal in refusals(harness):
        codes = {fault.code for fault in refusal.errors}
        assert codes >= {"palette-image", "unsupported-pixel-type", "mixed-georeference"}


def test_a_mask_is_refused_rather_than_lost(harness: ToolHarness) -> None:
    mask = np.full(BAND.shape[1:], 255, np.uint8)
    mask[:50] = 0
    write_raster(harness.dataset / "nir.tif", BAND, nodata=0, mask=mask)
    with pytest.raises(InvalidInput) as failure:
        run(harness)
    assert (failure.value.code, failure.value.errors[0].pointer) == ("masked-raster", "/params/paths/1")


def test_a_refusal_lists_all_errors(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "nir.tif", BAND.astype(np.uint8)[:, 1:], crs="EPSG:32633")
    (harness.dataset / "notes.tif").write_bytes(b"no raster at all")
    (harness.dataset / "merged.tif").write_bytes(b"old")
    paths = ["red.tif", "nir.tif", "absent.tif", "notes.tif", "red.tif"]
    with pytest.raises(InvalidInput) as refusal:
        harness.check(TOOL, {"paths": paths, "outputPath": "merged.tif"})
    assert refusal.value.code == "bands-do-not-match"
    assert {(fault.pointer, fault.code) for fault in refusal.value.errors} == {
        ("/params/paths/1", "size-mismatch"),
        ("/params/paths/1", "type-mismatch"),
        ("/params/paths/1", "nodata-mismatch"),
        ("/params/paths/1", "crs-mismatch"),
        ("/params/paths/2", "no-such-entry"),
        ("/params/paths/3", "not-a-raster"),
        ("/params/paths/4", "duplicate-input"),
        ("/params/outputPath", "output-exists"),
    }
    assert all(fault.message in refusal.value.message for fault in refusal.value.errors)


def test_a_failed_run_lists_all_errors_of_the_files(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "nir.tif", BAND.astype(np.uint8), nodata=0)
    (harness.dataset / "notes.tif").write_bytes(b"no raster at all")
    with pytest.raises(InvalidInput) as failure:
        ToolHarness(harness.dataset, harness.workdir).run(
            TOOL, MERGE | {"paths": ["red.tif", "nir.tif", "notes.tif"]}
        )
    assert failure.value.code == "bands-do-not-match"
    assert {fault.code for fault in failure.value.errors} == {"type-mismatch", "unreadable-raster"}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"paths": ["red.tif", "red.tif"]}, "duplicate-input"),
        ({"outputPath": "red.tif"}, "output-is-input"),
        ({"outputPath": "red.tif", "overwrite": True}, "output-is-input"),
        ({"outputPath": "merged.png"}, "invalid-output-name"),
    ],
)
def test_what_the_parameters_show_to_be_wrong(
    harness: ToolHarness, params: dict[str, Any], code: str
) -> None:
    assert [refusal.code for refusal in refusals(harness, **params)] == [code, code]


def test_an_existing_output_is_replaced_only_with_overwrite(harness: ToolHarness) -> None:
    (harness.dataset / "merged.tif").write_bytes(b"old")
    (harness.dataset / "folder.tif").mkdir()
    for params, code in (({}, "output-exists"), ({"outputPath": "folder.tif"}, "entry-is-folder")):
        with pytest.raises(InvalidInput) as refusal:
            harness.check(TOOL, MERGE | params)
        assert refusal.value.code == code
    (edit,) = run(harness, overwrite=True).changes.edits
    assert isinstance(edit, PutEntry)
    assert (edit.at, edit.existing) == ("merged.tif", "replace")


@pytest.mark.parametrize(
    "params",
    [
        {"paths": ["red.tif"]},
        {"paths": []},
        {"paths": ["red.tif"] * 65},
        {"paths": "red.tif"},
        {"paths": ["red.tif", "../nir.tif"]},
        {"paths": ["red.tif", 7]},
        {"outputPath": ".ddb/merged.tif"},
        {"outputPath": "/merged.tif"},
        {"outputPath": "/vsimem/merged.tif"},
        {"outputPath": None},
        {"overwrite": "yes"},
        {"surprise": 1},
    ],
)
def test_malformed_parameters_do_not_fit_the_schema(harness: ToolHarness, params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        harness.check(TOOL, MERGE | params)


def test_the_plan_names_what_is_read_and_written(harness: ToolHarness) -> None:
    plan = harness.check(TOOL, MERGE)
    assert (plan.reads, plan.writes) == (("red.tif", "nir.tif"), ("merged.tif",))
    assert plan.estimated_output_bytes == round(2 * 2 * 120 * 200 * 4 / 3)
    assert plan.memory_bytes == 1024**3
    assert ToolHarness(harness.dataset, harness.workdir).check(TOOL, MERGE).estimated_output_bytes > 100_000


def test_a_dry_run_lists_the_grid_the_bands_and_the_warnings(harness: ToolHarness) -> None:
    write_raster(
        harness.dataset / "nir.tif", BAND, nodata=0, transform=from_origin(500_000, 5_000_000, 0.51, 0.5)
    )
    params = MergeMultispectralParams.model_validate_json(json.dumps(MERGE))
    found = TOOL.dry_run(params, harness.view())
    assert dict(found.summary) == {
        "outputPath": "merged.tif",
        "bands": [
            {"path": "red.tif", "name": "red", "known": True},
            {"path": "nir.tif", "name": "nir", "known": True},
        ],
        "width": 200,
        "height": 120,
        "type": "uint16",
        "crs": "EPSG:32632",
        "nodata": 0,
        "georeferenced": True,
        "mayBeShifted": False,
    }
    assert found.warnings == (
        "'nir.tif' has pixels 2.0% larger or smaller than the first file's; they are stacked as they are.",
    )
    unknown = TOOL.dry_run(params, ToolHarness(harness.dataset, harness.workdir).view())
    assert unknown.warnings == ("Some files aren't indexed yet; they are checked when the task runs.",)
    assert set(unknown.summary) == {"outputPath", "bands"}


def test_a_difference_in_pixel_size_is_warned_of_in_the_run_as_well(harness: ToolHarness) -> None:
    write_raster(
        harness.dataset / "nir.tif", BAND, nodata=0, transform=from_origin(500_000, 5_000_000, 0.51, 0.5)
    )
    outcome = run(harness)
    (warning,) = outcome.result["warnings"]
    assert "2.0% larger" in warning
    assert f"Warning: {warning}" in outcome.log


def write_dji_band(path: Path, *, x: float, y: float, band: str, scene: Pixels) -> None:
    """A picture whose optical centre is at (x, y) from that of the near infrared camera's."""
    said = {"RelativeOpticalCenterX": f"{x:+}", "RelativeOpticalCenterY": f"{y:+}", "BandName": band}
    gps = {
        "GPSLatitudeRef": "N",
        "GPSLatitude": (45.0, 30.0, 0.0),
        "GPSLongitudeRef": "E",
        "GPSLongitude": (9.0, 0.0, 0.0),
    }
    block = exif_block({"Make": "DJI", "Model": "FC6360"}, gps=gps)
    block[700] = xmp_packet(said, namespace=DJI)
    Image.fromarray(scene).save(path, "TIFF", exif=block)


def test_pictures_of_a_dji_camera_are_shifted_and_keep_their_position(harness: ToolHarness) -> None:
    scene = np.random.default_rng(3).integers(0, 255, (200, 200)).astype(np.uint8)
    write_dji_band(harness.dataset / "DJI_1.TIF", x=4.2, y=-2.6, band="Red", scene=scene[13:113, 6:156])
    write_dji_band(harness.dataset / "DJI_2.TIF", x=0, y=0, band="NIR", scene=scene[10:110, 10:160])
    outcome = run(harness, paths=["DJI_1.TIF", "DJI_2.TIF"])
    back = read(output(outcome))
    assert back.shape == (2, 97, 146)
    assert (back[0] == back[1]).all()
    assert (outcome.result["shiftedBy"], outcome.result["position"]) == ("relative optical centre", True)
    assert outcome.result["bands"] == [
        {"name": "red", "path": "DJI_1.TIF", "shift": [0, 0]},
        {"name": "nir", "path": "DJI_2.TIF", "shift": [-4, 3]},
    ]
    assert "Band 2 is 'nir' from 'DJI_2.TIF', -4 px to the right and +3 px down of the first." in outcome.log


def test_the_position_comes_from_the_first_picture_that_has_one(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "red.tif", plane()[:, :30, :40].astype(np.uint8))
    write_raster(harness.dataset / "nir.tif", plane()[:, :30, :40].astype(np.uint8))
    assert run(harness).result["position"] is False
    gps = {"GPSLatitudeRef": "S", "GPSLatitude": (1.0, 2.0, 3.0)}
    for name, tags in (("a.tif", None), ("b.tif", gps)):
        write_photo(harness.dataset / name, exif=exif_block(gps=tags), mode="L")
    outcome = run(harness, paths=["a.tif", "b.tif"])
    assert outcome.result["position"] is True
    with open_raster(output(outcome)) as opened:
        assert opened.tags(ns="EXIF")["EXIF_GPSLatitudeRef"] == "S"


def test_pictures_of_which_only_some_tell_of_their_camera_are_refused_in_the_run(
    harness: ToolHarness,
) -> None:
    write_photo(harness.dataset / "red.tif", size=(200, 120), mode="L")
    write_dji_band(harness.dataset / "nir.tif", x=0, y=0, band="NIR", scene=np.zeros((120, 200), np.uint8))
    harness.check(TOOL, MERGE)
    with pytest.raises(InvalidInput) as failure:
        run(harness)
    assert (failure.value.code, failure.value.errors[0].pointer) == ("camera-mismatch", "/params/paths/0")


def test_checking_and_planning_load_neither_gdal_nor_numpy() -> None:
    code = (
        "import sys; from aerotask.sdk import DatasetView, EntryView; "
        "from aerotask.tools.merge_multispectral import MergeMultispectral as T, MergeMultispectralParams; "
        'p = MergeMultispectralParams.model_validate_json(\'{"paths": ["a.tif", "b.tif"], "outputPath": "c.tif"}\'); '
        "d = DatasetView('ds', {n: EntryView(n, 'image', 'x', 5, indexed=False) for n in ('a.tif', 'b.tif')}); "
        "T().check(p, d); T().plan(p, d); T().dry_run(p, d); "
        "print(sorted({'rasterio', 'numpy', 'deflate', 'PIL'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_schema_is_valid_and_every_parameter_is_described() -> None:
    schema = MergeMultispectralParams.model_json_schema(by_alias=True)
    Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == ["paths", "outputPath", "overwrite"]
    assert (schema["required"], schema["additionalProperties"]) == (["paths", "outputPath"], False)
    assert (schema["properties"]["paths"]["minItems"], schema["properties"]["paths"]["maxItems"]) == (2, 64)


def test_the_page_lists_every_error_code() -> None:
    source = Path(__file__).resolve().parents[2] / "src" / "aerotask"
    modules = [
        source / "tools" / "merge_multispectral.py",
        source / "tools" / "indexed_raster.py",
        *(source / "raster" / "merge" / f"{name}.py" for name in ("checks", "plan")),
    ]
    text = "".join(module.read_text(encoding="utf-8") for module in modules)
    codes = set(
        re.findall(r'"((?:[a-z]+-)+(?:mismatch|band|image|type|raster|input|exists|name|large|match))"', text)
    )
    assert len(codes) >= 17
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()


def test_a_preview_shows_what_a_run_would_give(harness: ToolHarness) -> None:
    with Image.open(io.BytesIO(harness.preview(TOOL, MERGE, longest_px=100))) as picture:
        assert (picture.format, picture.size) == ("WEBP", (100, 60))
    write_raster(harness.dataset / "nir.tif", BAND.astype(np.uint8), nodata=0)
    with pytest.raises(InvalidInput, match="uint8"):
        harness.preview(TOOL, MERGE, longest_px=100)


# Real pictures.


@pytest.fixture
def capture(harness: ToolHarness, real_data: Path) -> list[str]:
    """The five pictures of one capture of a RedEdge: a panel on the ground, from about a metre."""
    paths = [f"IMG_0000_{number}.tif" for number in range(1, 6)]
    for path in paths:
        (harness.dataset / path).write_bytes((real_data / "micasense" / path).read_bytes())
    return paths


def test_the_bands_of_a_real_capture_get_their_names_shifts_and_position(
    harness: ToolHarness, capture: list[str]
) -> None:
    outcome = run(harness, paths=capture)
    with open_raster(output(outcome)) as opened:
        assert opened.descriptions == NAMES
        assert [colour.name for colour in opened.colorinterp] == list(NAMES)
        assert (opened.width, opened.height) == (1258, 951)
        assert opened.tags(ns="EXIF")["EXIF_GPSLongitude"] == "(119) (26) (6.96804)"
    assert [band["shift"] for band in outcome.result["bands"]] == [
        [0, 0],
        [12, 8],
        [10, 6],
        [21, 7],
        [22, -1],
    ]
    assert (outcome.result["shiftedBy"], outcome.result["position"]) == ("principal point", True)


def test_edges_of_a_real_capture_coincide_better_than_without_the_shifts(
    harness: ToolHarness, capture: list[str]
) -> None:
    """Measured by phase correlation of the edges, for all ten pairs of bands.

    What remains is the parallax of a panel that is only about a metre away, and the directions of the lenses.
    """
    as_they_are = np.concatenate([read(harness.dataset / path) for path in capture])
    without = edge_distance_px(as_they_are)
    merged = edge_distance_px(read(output(run(harness, paths=capture))))
    assert 42 < without < 44
    assert merged < 0.94 * without


def edge_distance_px(bands: Pixels) -> float:
    """The root of the mean squared distance between the same edges in two bands."""
    edges = [edge_strength(band) for band in bands]
    window = cv2.createHanningWindow(edges[0].shape[::-1], cv2.CV_32F)
    shifts = []
    for one, other in combinations(edges, 2):
        shift, response = cv2.phaseCorrelate(one, other, window)
        assert response > 0.5
        shifts.append(shift)
    return float(np.sqrt(np.mean(np.sum(np.square(shifts), axis=1))))


def edge_strength(band: Pixels) -> Any:
    values = np.sqrt(band.astype(np.float32))
    strength = np.sqrt(np.hypot(cv2.Sobel(values, cv2.CV_32F, 1, 0), cv2.Sobel(values, cv2.CV_32F, 0, 1)))
    return strength - strength.mean()


def test_vegetation_of_a_real_field_is_vegetation(harness: ToolHarness, real_data: Path) -> None:
    paths = [f"ms_{name}.tif" for name in NAMES]
    for path in paths:
        (harness.dataset / path).write_bytes((real_data / "demo" / path).read_bytes())
    outcome = run(harness, paths=paths)
    result = output(outcome)
    assert (read(result) == np.concatenate([read(harness.dataset / path) for path in paths])).all()
    (harness.dataset / "merged.tif").write_bytes(result.read_bytes())
    exported = harness.run(RasterExport(), {"path": "merged.tif", "formula": "NDVI", "colormap": "none"})
    assert exported.result["bands"] == {"N": 4, "R": 3}
    ndvi = read(exported.artifact)[0]
    hedge, tree, road = ndvi[65:90, 20:180], ndvi[95:105, 400:410], ndvi[100:300, 290:340]
    assert np.median(hedge) == pytest.approx(0.79, abs=0.01)
    assert np.median(tree) == pytest.approx(0.82, abs=0.01)
    assert np.median(road) == pytest.approx(0.25, abs=0.01)

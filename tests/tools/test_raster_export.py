"""raster-export as a tool: checks, plan, run, log and result."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate
from tests.raster.rasters import Pixels, read, slope, write_raster
from tests.tools.raster_harness import empty_harness, index

from aerotask.domain.errors import InvalidInput
from aerotask.raster.colormaps import colormap_names
from aerotask.raster.export.presets import PRESETS
from aerotask.raster.expression.indices import index_ids
from aerotask.sdk import Cancelled, DatasetView, EntryView
from aerotask.sdk.run import LogLine, Run, RunProgress
from aerotask.sdk.testing import ToolHarness
from aerotask.tools.raster_export import RasterExport, RasterExportParams

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "tools" / "raster-export.md").read_text(encoding="utf-8")
TOOL = RasterExport()


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    """A dataset in which `field.tif` has five bands and a nodata value."""
    harness = empty_harness(tmp_path)
    write_raster(
        harness.dataset / "field.tif",
        field(),
        descriptions=["red", "green", "blue", "nir", "rededge"],
        nodata=0,
        tiled=True,
    )
    return harness


def field() -> Pixels:
    pixels = np.random.default_rng(9).integers(100, 9000, (5, 300, 400)).astype(np.uint16)
    pixels[:, :50, :50] = 0
    return pixels


def unindexed(harness: ToolHarness) -> ToolHarness:
    return ToolHarness(harness.dataset, harness.workdir)


def refusal(harness: ToolHarness, **params: Any) -> InvalidInput:
    """The error at submit, which must equal that of the run."""
    with pytest.raises(InvalidInput) as at_submit:
        harness.check(TOOL, {"path": "field.tif"} | params)
    with pytest.raises(InvalidInput) as in_run:
        unindexed(harness).run(TOOL, {"path": "field.tif"} | params)
    assert in_run.value.code == at_submit.value.code
    return at_submit.value


def test_the_main_job_gives_the_colours_computed_by_hand(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "slope.tif", slope((260, 260)))
    outcome = harness.run(TOOL, {"path": "slope.tif", "formula": "ndvi", "bandFilter": "RN"})
    pixels = read(outcome.artifact)
    assert pixels[:, 0, 0].tolist() == [204, 220, 120, 255]
    assert pixels[:, 125, 0].tolist() == [217, 221, 125, 255]
    assert pixels[:, 0, 250].tolist() == [225, 221, 128, 255]


def test_the_result_has_all_facts(harness: ToolHarness) -> None:
    outcome = harness.run(TOOL, {"path": "field.tif", "formula": "NDVI", "preset": "true-color"})
    assert dict(outcome.result) == {
        "shows": "NDVI",
        "formula": "NDVI",
        "expression": "(N-R)/(N+R)",
        "bands": {"N": 4, "R": 1},
        "range": [[-1, 1]],
        "unscaled": False,
        "rescaleSource": "formula",
        "colormap": "rdylgn",
        "format": "gtiff",
        "dataType": "uint8",
        "scale": None,
        "offset": None,
        "left": 0,
        "top": 0,
        "width": 400,
        "height": 300,
        "validPixels": 300 * 400 - 50 * 50,
        "sizeBytes": outcome.artifact.stat().st_size,
        "warnings": ["Preset 'true-color' was ignored: the formula comes first."],
    }
    assert json.loads(json.dumps(outcome.result, allow_nan=False)) == outcome.result


def test_three_bands_are_reported_as_a_list(harness: ToolHarness) -> None:
    result = harness.run(TOOL, {"path": "field.tif", "bands": "5,4,1", "rescale": "0,9000"}).result
    assert (result["bands"], result["range"]) == ([5, 4, 1], [[0, 9000]] * 3)
    assert (result["formula"], result["colormap"], result["rescaleSource"]) == (None, None, "rescale")


def test_the_log_explains_the_export(harness: ToolHarness) -> None:
    outcome = harness.run(TOOL, {"path": "field.tif", "formula": "NDRE", "bands": "1"})
    assert outcome.log[:-1] == (
        "Reading 'field.tif': 400 × 300 pixels, 5 band(s) of uint16, EPSG:32632, nodata 0.",
        "Computing NDRE = (N-Re)/(N+Re).",
        "N is band 4, from the band descriptions.",
        "Re is band 5, from the band descriptions.",
        "Warning: 'bands' was ignored: the formula comes first.",
        "Colouring with 'rdylgn' from -1 to 1 (the formula's own range).",
    )
    assert re.fullmatch(
        r"Wrote 'field_export\.tif': 0\.\d MB; 97\.9 % of the pixels have a value\.", outcome.log[-1]
    )


def test_the_log_names_the_sample_of_percentiles(harness: ToolHarness) -> None:
    log = harness.run(TOOL, {"path": "field.tif", "preset": "true-color"}).log
    assert "(2nd to 98th percentile, from all pixels)." in log[-2]
    assert log[2].startswith(
        "Preset 'true-color' shows R-G-B as red, green and blue: R = band 1 (from the band desc"
    )


@pytest.mark.parametrize(("highest", "warned"), [(0.9, False), (9000.0, True)])
def test_values_that_cannot_be_reflectances_cause_a_warning(
    harness: ToolHarness, highest: float, *, warned: bool
) -> None:
    pixels = np.linspace(0, highest, 2 * 30 * 40, dtype=np.float32).reshape(2, 30, 40)
    write_raster(harness.dataset / "floats.tif", pixels, descriptions=("red", "nir"))
    warnings = harness.run(TOOL, {"path": "floats.tif", "formula": "SAVI"}).result["warnings"]
    assert [text[:58] for text in warnings] == (
        ["SAVI has constants for reflectances from 0 to 1, but band "] if warned else []
    )


def test_progress_rises_from_0_to_1(harness: ToolHarness) -> None:
    for format_ in ("gtiff", "cog"):
        fractions = [
            step.fraction for step in harness.run(TOOL, {"path": "field.tif", "format": format_}).progress
        ]
        assert all(before < after for before, after in pairwise(fractions))
        assert fractions[-1] == 1.0
        harness = ToolHarness(harness.dataset, harness.workdir, describe=index)


def test_an_empty_raster_gives_an_empty_result_and_a_warning(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "empty.tif", np.zeros((1, 20, 20), np.uint8), nodata=0)
    outcome = harness.run(TOOL, {"path": "empty.tif"})
    assert outcome.result["warnings"] == ["No pixel has a value: the result is empty."]
    assert "Warning: No pixel has a value: the result is empty." in outcome.log
    assert not read(outcome.artifact).any()


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"path": "field.tif"}, "field_export.tif"),
        ({"path": "field.tif", "fileName": "July.tif"}, "July.tif"),
        ({"path": "a/b.c.tiff"}, "b.c_export.tif"),
        ({"path": "noending"}, "noending_export.tif"),
        ({"path": "ä" * 124 + ".tif"}, "ä" * 122 + "_export.tif"),
    ],
)
def test_the_download_has_a_name(params: dict[str, str], name: str) -> None:
    found = RasterExportParams.model_validate_json(json.dumps(params)).download_name()
    assert found == name
    assert len(found.encode()) <= 255


def test_the_artifact_is_a_tiff_of_that_name(harness: ToolHarness) -> None:
    [artifact] = harness.run(TOOL, {"path": "field.tif", "fileName": "mine.tif"}).changes.artifacts
    assert (artifact.name, artifact.media_type) == ("mine.tif", "image/tiff")
    assert sorted(path.name for path in harness.workdir.iterdir()) == ["export.tif"]


def test_a_second_run_in_the_same_folder_replaces_the_first(harness: ToolHarness) -> None:
    (harness.workdir / "export.partial.tif").write_bytes(b"left by a killed run")
    first = read(harness.run(TOOL, {"path": "field.tif", "formula": "NDVI"}).artifact)
    second = read(harness.run(TOOL, {"path": "field.tif", "formula": "NDVI"}).artifact)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "shown", [{"formula": "NDVI"}, {"preset": "true-color"}, {"formula": "NDVI", "colormap": "none"}]
)
def test_a_cog_is_valid_and_shows_the_same(harness: ToolHarness, shown: dict[str, str]) -> None:
    plain = read(harness.run(TOOL, {"path": "field.tif"} | shown).artifact)
    cog = harness.run(TOOL, {"path": "field.tif", "format": "cog"} | shown).artifact
    valid, errors, _warnings = cog_validate(cog, quiet=True)
    assert (valid, errors) == (True, [])
    np.testing.assert_array_equal(read(cog), plain)
    with rasterio.open(cog) as opened:
        if "colormap" in shown:
            assert np.isnan(opened.nodata)
        else:
            assert opened.colorinterp[3] == ColorInterp.alpha
        assert opened.crs.to_epsg() == 32632


def test_a_large_cog_has_overviews(harness: ToolHarness) -> None:
    write_raster(harness.dataset / "large.tif", slope((1200, 1100)))
    cog = harness.run(
        TOOL, {"path": "large.tif", "format": "cog", "bands": "1", "rescale": "100,300"}
    ).artifact
    assert cog_validate(cog, quiet=True)[0]
    with rasterio.open(cog) as opened:
        assert opened.overviews(1) == [2, 4]


@pytest.mark.parametrize("formula", index_ids())
def test_every_index_runs(harness: ToolHarness, formula: str) -> None:
    write_raster(
        harness.dataset / "seven.tif",
        np.concatenate([field(), field()[:2] + 7]),
        descriptions=["red", "green", "blue", "nir", "rededge", "swir1", "swir2"],
        nodata=0,
        tiled=True,
    )
    outcome = harness.run(TOOL, {"path": "seven.tif", "formula": formula.lower()})
    assert outcome.result["formula"] == formula
    assert outcome.result["validPixels"] > 100_000


@pytest.mark.parametrize(
    "preset", ["true-color", "false-color-ir", "red-edge", "ndvi", "ndwi", "gndvi", "ndre"]
)
def test_every_preset_whose_bands_the_raster_has_runs(harness: ToolHarness, preset: str) -> None:
    assert harness.run(TOOL, {"path": "field.tif", "preset": preset}).result["validPixels"] == 117_500


@pytest.mark.parametrize("preset", ["agriculture", "geology", "moisture", "urban", "swir-composite"])
def test_presets_for_satellites_run_on_a_satellites_raster(harness: ToolHarness, preset: str) -> None:
    pixels = np.random.default_rng(1).integers(1, 5000, (12, 20, 20)).astype(np.uint16)
    write_raster(harness.dataset / "s2.tif", pixels, tags={"TIFFTAG_IMAGEDESCRIPTION": "Sentinel-2 L2A"})
    assert harness.run(TOOL, {"path": "s2.tif", "preset": preset}).result["validPixels"] == 400


@pytest.mark.parametrize("preset", ["ironbow", "whitehot", "blackhot"])
def test_thermal_presets_colour_temperatures(harness: ToolHarness, preset: str) -> None:
    write_raster(harness.dataset / "hot.tif", np.linspace(10, 60, 400, dtype=np.float32).reshape(1, 20, 20))
    result = harness.run(TOOL, {"path": "hot.tif", "preset": preset, "rescale": "10,60"}).result
    assert (result["colormap"], result["expression"]) == (preset, "b1")


@pytest.mark.parametrize("colormap", ["rdylgn", "viridis", "greys", "discrete_ndvi", "turbo_r", "none"])
def test_colormaps_of_every_kind_run(harness: ToolHarness, colormap: str) -> None:
    assert (
        harness.run(TOOL, {"path": "field.tif", "formula": "NDVI", "colormap": colormap}).result["colormap"]
        == colormap
    )


REFUSALS: list[tuple[dict[str, str], str, str]] = [
    ({"formula": "NDVX"}, "unknown-formula", "There is no formula 'NDVX'"),
    ({"formula": "(N-R"}, "invalid-formula", "ends too early"),
    ({"formula": "1+1"}, "invalid-formula", "reads no band"),
    ({"formula": "b9/b1"}, "band-out-of-range", "reads band 9"),
    ({"formula": "T"}, "missing-bands", "needs T (thermal)"),
    ({"formula": "NDVI", "bandFilter": "RGB"}, "missing-bands", "needs N (near infrared)"),
    ({"formula": "NDVI", "bandFilter": "R-N"}, "invalid-band-filter", "is invalid"),
    ({"formula": "NDVI", "bandFilter": "RGBNReT"}, "band-out-of-range", "names 6 bands"),
    ({"preset": "geology"}, "missing-bands", "needs S1 (short-wave infrared at 1.6 µm) and S2"),
    ({"preset": "nice"}, "unknown-preset", "There is no preset 'nice'"),
    ({"colormap": "rainbows"}, "unknown-colormap", "There is no colormap 'rainbows'"),
    ({"rescale": "1"}, "invalid-rescale", "two numbers"),
    ({"rescale": "NaN,1"}, "invalid-rescale", "must be finite"),
    ({"rescale": "0,Infinity"}, "invalid-rescale", "must be finite"),
    ({"formula": "NDVI", "rescale": "0,1;0,1;0,1"}, "invalid-rescale", "give one pair"),
    ({"bands": "1,2"}, "invalid-bands", "one band, or three"),
    ({"bands": "1,2,6"}, "band-out-of-range", "Band 6"),
    ({"bands": "0"}, "band-out-of-range", "counted from 1"),
    ({"format": "palette"}, "palette-impossible", "colormap"),
    ({"format": "palette", "formula": "NDVI", "colormap": "none"}, "palette-impossible", "colormap"),
]


@pytest.mark.parametrize(("params", "code", "words"), REFUSALS)
def test_impossible_options_are_refused_at_submit_and_in_the_run(
    harness: ToolHarness, params: dict[str, str], code: str, words: str
) -> None:
    error = refusal(harness, **params)
    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"path": "field.tif", "colour": "red"},
        {"path": "field.tif", "format": "png"},
        {"path": "field.tif", "formula": 7},
        {"path": "field.tif", "formula": ""},
        {"path": "field.tif", "formula": "N" * 513},
        {"path": "field.tif", "bands": [1, 2, 3]},
        {"path": "../field.tif"},
        {"path": "/vsicurl/http://example.org/a.tif"},
        {"path": "field.tif", "fileName": "a/b.tif"},
        {"path": "field.tif", "fileName": "a\nb.tif"},
        {"path": "field.tif", "fileName": "..%2fb.tif"},
    ],
)
def test_parameters_that_violate_the_schema_are_refused(harness: ToolHarness, params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        harness.check(TOOL, params)


def test_an_absent_entry_and_a_folder_are_refused(harness: ToolHarness) -> None:
    (harness.dataset / "folder").mkdir()
    with pytest.raises(InvalidInput, match="no entry"):
        harness.check(TOOL, {"path": "other.tif"})
    with pytest.raises(InvalidInput, match="is a folder"):
        harness.check(TOOL, {"path": "folder"})


def test_an_entry_known_to_be_no_raster_is_refused_at_submit(harness: ToolHarness) -> None:
    (harness.dataset / "notes.tif").write_text("just words")
    with pytest.raises(InvalidInput, match="is not a raster that can be exported") as caught:
        harness.check(TOOL, {"path": "notes.tif"})
    assert caught.value.code == "not-a-raster"


def test_before_indexing_only_the_run_finds_the_fault(harness: ToolHarness) -> None:
    (harness.dataset / "notes.tif").write_text("just words")
    early = unindexed(harness)
    early.check(TOOL, {"path": "notes.tif"})
    with pytest.raises(InvalidInput, match="it is text") as caught:
        early.run(TOOL, {"path": "notes.tif"})
    assert caught.value.code == "unreadable-raster"
    assert list(harness.workdir.iterdir()) == []


def test_a_photo_without_a_profile_in_the_index_is_left_to_the_run() -> None:
    entry = EntryView("photo.jpg", "geoImage", "0" * 64, 1_000_000, indexed=True, properties={"make": "DJI"})
    dataset = DatasetView("ds", {"photo.jpg": entry})
    params = RasterExportParams.model_validate_json('{"path": "photo.jpg"}')
    TOOL.check(params, dataset)
    assert TOOL.plan(params, dataset).estimated_output_bytes == 2_000_000


def test_the_plan_reads_the_entry_and_writes_nothing(harness: ToolHarness) -> None:
    plan = harness.check(TOOL, {"path": "field.tif", "formula": "NDVI"})
    assert (plan.reads, plan.writes, plan.memory_bytes) == (("field.tif",), (), 1024**3)


@pytest.mark.parametrize(
    ("shown", "bytes_per_px"),
    [
        ({"formula": "NDVI"}, 2.0),
        ({"formula": "NDVI", "format": "palette"}, 1.0),
        ({"formula": "NDVI", "colormap": "none"}, 5.5),
        ({"preset": "true-color"}, 4.0),
        ({"preset": "true-color", "colormap": "none"}, 16.5),
    ],
)
def test_the_estimate_depends_on_size_and_kind(
    harness: ToolHarness, shown: dict[str, str], bytes_per_px: float
) -> None:
    outcome = harness.run(TOOL, {"path": "field.tif"} | shown)
    assert outcome.plan.estimated_output_bytes == round(300 * 400 * bytes_per_px)
    # Even noise, which compresses worst, stays within twice the estimate.
    assert outcome.artifact.stat().st_size < 2 * outcome.plan.estimated_output_bytes


def test_cancelling_ends_the_run_and_its_threads(harness: ToolHarness) -> None:
    seen: list[float] = []

    def emit(event: RunProgress | LogLine) -> None:
        if isinstance(event, RunProgress):
            seen.append(event.fraction)
            if event.fraction > 0.3:
                raise Cancelled

    write_raster(harness.dataset / "large.tif", slope((1500, 1500)))
    run = Run(
        inputs={"large.tif": harness.dataset / "large.tif"}, workdir=harness.workdir, threads=2, emit=emit
    )
    params = RasterExportParams.model_validate_json(
        '{"path": "large.tif", "formula": "NDVI", "bandFilter": "RN"}'
    )
    with pytest.raises(Cancelled):
        TOOL.run(params, run)
    assert 0.3 < seen[-1] < 0.9
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("raster-")]
    assert run.changes().artifacts == ()


def test_checking_and_planning_load_no_gdal_and_no_numpy() -> None:
    code = (
        "import sys; from aerotask.tools.raster_export import *; "
        'p = RasterExportParams.model_validate_json(\'{"path": "a.tif", "formula": "NDVI", "colormap": "viridis"}\'); '
        "e = EntryView('a.tif', 'geoRaster', '', 9, indexed=False); "
        "d = DatasetView('ds', {'a.tif': e}); RasterExport().check(p, d); RasterExport().plan(p, d); "
        "print(sorted({'rasterio', 'numpy', 'deflate'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_schema_is_valid_and_every_parameter_is_described() -> None:
    schema = RasterExportParams.model_json_schema(by_alias=True)
    Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == [
        "path",
        "formula",
        "bandFilter",
        "colormap",
        "rescale",
        "bands",
        "unscale",
        "preset",
        "fileName",
        "format",
        "dataType",
        "bbox",
        "bboxCrs",
        "cutline",
    ]
    assert all(entry.get("description") for entry in schema["properties"].values())
    assert schema["properties"]["colormap"]["default"] is None
    assert (schema["required"], schema["additionalProperties"]) == (["path"], False)


def test_the_page_names_every_parameter_formula_preset_and_own_colormap() -> None:
    schema = RasterExportParams.model_json_schema(by_alias=True)
    own_colormaps = colormap_names()[:13]
    for name in (*schema["properties"], *index_ids(), *PRESETS, *own_colormaps, "gtiff", "cog", "palette"):
        assert f"`{name}`" in PAGE, name


def test_the_page_lists_every_error_code() -> None:
    sources = [
        *(
            path
            for path in (REPOSITORY / "src/aerotask/raster").rglob("*.py")
            # They serve other tools, and map tiles.
            if path.parent.name not in {"alignment", "georeference"} and path.name != "pixel_mapping.py"
        ),
        REPOSITORY / "src/aerotask/tools/raster_export.py",
        REPOSITORY / "src/aerotask/tools/indexed_raster.py",
        REPOSITORY / "src/aerotask/tools/indexed_area.py",
        # A cutline's file is read by them.
        REPOSITORY / "src/aerotask/metadata/vectors/source.py",
        REPOSITORY / "src/aerotask/metadata/gpkg_views.py",
    ]
    codes = {
        code for path in sources for code in re.findall(r'code="([a-z-]+)"', path.read_text(encoding="utf-8"))
    }
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", PAGE.split("## Error codes")[1], re.MULTILINE))
    assert listed == codes


@pytest.fixture
def real_harness(real_data: Path, tmp_path: Path) -> ToolHarness:
    return ToolHarness(real_data, tmp_path, describe=index)


def test_a_real_field_has_plants_and_soil(real_harness: ToolHarness) -> None:
    params = {"path": "multispectral/field.tif", "formula": "NDVI", "colormap": "none"}
    ndvi = read(real_harness.run(TOOL, params).artifact)
    assert 0.1 < np.nanmedian(ndvi) < 0.95
    assert np.isnan(ndvi).mean() == pytest.approx(0.19, abs=0.02)


def test_a_real_landsat_scene_keeps_its_collar_transparent(real_harness: ToolHarness) -> None:
    outcome = real_harness.run(TOOL, {"path": "rasterio/RGB.byte.tif", "preset": "true-color"})
    pixels = read(outcome.artifact)
    assert pixels[:, 0, 0].tolist() == [0, 0, 0, 0]
    assert (pixels[3] > 0).mean() == pytest.approx(0.667, abs=0.01)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("demo/orthophoto.tif", {"formula": "VARI"}),
        ("demo/ms_nir.tif", {}),
        ("micasense/IMG_0000_4.tif", {"colormap": "viridis"}),
        ("demo/DJI_0022.JPG", {"formula": "GLI", "format": "cog"}),
    ],
)
def test_real_files_of_every_kind_are_exported(
    real_harness: ToolHarness, path: str, params: dict[str, str]
) -> None:
    assert real_harness.run(TOOL, {"path": path} | params).result["validPixels"] > 100_000

"""align-raster as a tool: what it finds, refuses, writes and tells."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from pydantic import ValidationError
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate
from tests.raster.alignment.scenes import (
    METRES,
    ORIGIN,
    SIDE,
    canvas,
    cut,
    located,
    shifted,
)
from tests.raster.georeference.places import by_control_points, corner_points
from tests.raster.rasters import Pixels, read, write_raster
from tests.tools.raster_harness import empty_harness

from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.metadata.raster import extract_raster
from aerotask.sdk import Cancelled, DatasetView, EntryView
from aerotask.sdk.run import LogLine, Run, RunProgress
from aerotask.sdk.testing import ToolHarness, ToolOutcome
from aerotask.tools.align_raster import AlignRaster, AlignRasterParams

TOOL = AlignRaster()
PARAMS = {"sourcePath": "source.tif", "referencePath": "reference.tif", "outputPath": "aligned.tif"}


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    """An empty dataset."""
    return empty_harness(tmp_path)


@pytest.fixture(scope="module")
def scene() -> Pixels:
    """A canvas from which rasters are cut."""
    return canvas()


def put(harness: ToolHarness, name: str, pixels: Pixels, **options: Any) -> Path:
    return write_raster(harness.dataset / name, pixels, **({"nodata": 0} | options))


def align(harness: ToolHarness, **params: Any) -> ToolOutcome:
    return harness.run(TOOL, PARAMS | params)


def written(outcome: ToolOutcome) -> Path:
    """The file that the run puts into the dataset."""
    (edit,) = outcome.changes.edits
    assert edit.at == "aligned.tif"
    path = getattr(edit, "content", None)
    assert isinstance(path, Path)
    return path


def numbers(outcome: ToolOutcome) -> dict[str, float]:
    """The result's figures."""
    return {name: value for name, value in outcome.result.items() if isinstance(value, int | float)}


def pixels_off(path: Path, reference: Pixels) -> float:
    """The mean difference between an aligned raster and the reference's grid where both have values."""
    with rasterio.open(path) as aligned:
        right = round((ORIGIN[0] - aligned.transform.c) / METRES)
        down = round((aligned.transform.f - ORIGIN[1]) / METRES)
        window = rasterio.windows.Window(right, down, SIDE, SIDE)
        pixels = aligned.read(window=window, boundless=True, fill_value=0).astype(float)
    both = (pixels != 0).all(axis=0) & (reference != 0).all(axis=0)
    assert both.mean() > 0.5
    return float(np.abs(pixels - reference)[:, both].mean())


def test_a_shift_of_5_and_minus_3_pixels_is_taken_back(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", shifted(scene, right=5, down=-3))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    outcome = align(harness, mode="translation")
    assert (outcome.result["dxPx"], outcome.result["dyPx"]) == pytest.approx((-5, 3), abs=0.02)
    assert (outcome.result["dx"], outcome.result["dy"]) == pytest.approx((-2.5, -1.5), abs=0.01)
    assert (outcome.result["rotationDeg"], outcome.result["scale"]) == (0, 1)
    assert outcome.result["mode"] == "translation"
    assert pixels_off(written(outcome), cut(scene, left=0, top=0)) < 1


def test_a_similarity_finds_no_rotation_and_no_scale_where_there_is_none(
    harness: ToolHarness, scene: Pixels
) -> None:
    put(harness, "source.tif", shifted(scene, right=2, down=-1))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    result = align(harness).result
    assert (result["dxPx"], result["dyPx"]) == pytest.approx((-2, 1), abs=0.02)
    assert result["scale"] == pytest.approx(1, abs=1e-4)
    assert result["rotationDeg"] == pytest.approx(0, abs=0.005)
    assert (result["inlierRatio"] > 0.9, result["rmsePx"] < 0.05, result["confidence"] > 0.9) == (True,) * 3


def test_rotation_and_scale_are_found_and_taken_back(harness: ToolHarness, scene: Pixels) -> None:
    # A source pixel shows what the reference shows 3° further clockwise and 1.05 times as far from the centre.
    centre = (SIDE + 128 - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), -3, 1.05)
    moved = np.stack(
        [
            np.asarray(
                cv2.warpAffine(band, matrix, band.shape[::-1], flags=cv2.INTER_CUBIC + cv2.WARP_INVERSE_MAP)
            )
            for band in scene
        ]
    )
    put(harness, "source.tif", cut(moved, left=0, top=0))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    outcome = align(harness)
    assert outcome.result["rotationDeg"] == pytest.approx(3, abs=0.005)
    assert outcome.result["scale"] == pytest.approx(1.05, abs=1e-4)
    assert pixels_off(written(outcome), cut(scene, left=0, top=0)) < 4


def test_an_elevation_model_moves_up_and_down_too(harness: ToolHarness) -> None:
    heights = canvas(5, bands=1).astype(np.float32) / 10
    source = shifted(heights, right=4, down=-3) + np.float32(12.5)
    put(harness, "source.tif", source, nodata=-9999)
    put(harness, "reference.tif", cut(heights, left=0, top=0), nodata=-9999)
    outcome = align(harness)
    assert (outcome.result["dxPx"], outcome.result["dyPx"]) == pytest.approx((-4, 3), abs=0.02)
    assert outcome.result["dz"] == pytest.approx(-12.5, abs=0.01)
    with rasterio.open(written(outcome)) as aligned:
        assert (aligned.nodata, aligned.dtypes) == (-9999, ("float32",))
        pixels = aligned.read(1, window=rasterio.windows.Window(20, 20, 400, 400))
        left, top = (
            round((aligned.transform.c - ORIGIN[0]) / METRES),
            round((ORIGIN[1] - aligned.transform.f) / METRES),
        )
    expected = cut(heights, left=left + 20, top=top + 20, side=400)[0]
    assert np.abs(pixels - expected).mean() < 0.1


def test_whole_metres_stay_whole(harness: ToolHarness) -> None:
    heights = canvas(5, bands=1).astype(np.int16) * 4
    put(harness, "source.tif", shifted(heights, right=4, down=-3) + np.int16(120), nodata=-32768)
    put(harness, "reference.tif", cut(heights, left=0, top=0), nodata=-32768)
    outcome = align(harness)
    assert outcome.result["dz"] == pytest.approx(-120, abs=0.1)
    with rasterio.open(written(outcome)) as aligned:
        assert aligned.dtypes == ("int16",)


def test_bytes_in_one_band_are_no_elevations(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", shifted(scene, right=5, down=-3)[:1])
    put(harness, "reference.tif", cut(scene, left=0, top=0)[:1])
    assert align(harness).result["dz"] is None


def test_an_index_that_says_so_is_no_elevation(harness: ToolHarness, scene: Pixels) -> None:
    index_map = scene[:1].astype(np.float32) / 127.5 - 1
    put(harness, "source.tif", shifted(index_map, right=5, down=-3), nodata=-9, descriptions=["NDVI"])
    put(harness, "reference.tif", cut(index_map, left=0, top=0), nodata=-9, descriptions=["NDVI"])
    assert align(harness).result["dz"] is None


def test_heights_are_compared_in_their_own_unit(harness: ToolHarness) -> None:
    decimetres = canvas(5, bands=1).astype(np.int16) * 4
    for name, pixels in {
        "source": shifted(decimetres, right=4, down=-3) + np.int16(120),
        "reference": cut(decimetres, left=0, top=0),
    }.items():
        with rasterio.open(put(harness, f"{name}.tif", pixels, nodata=-32768), "r+") as opened:
            opened.scales = [0.1]
    outcome = align(harness)
    assert outcome.result["dz"] == pytest.approx(-12, abs=0.01)
    with rasterio.open(written(outcome)) as aligned:
        assert aligned.scales == (0.1,)
        left, top = (
            round((aligned.transform.c - ORIGIN[0]) / METRES),
            round((ORIGIN[1] - aligned.transform.f) / METRES),
        )
        pixels = aligned.read(1, window=rasterio.windows.Window(20, 20, 400, 400))
    expected = cut(decimetres, left=left + 20, top=top + 20, side=400)[0]
    assert np.abs(pixels - expected).mean() < 2


def test_collars_without_data_do_not_pull_the_answer(harness: ToolHarness, scene: Pixels) -> None:
    source, reference = shifted(scene, right=5, down=-3), cut(scene, left=0, top=0)
    source[:, :90] = 0
    source[:, :, -60:] = 0
    reference[:, -80:] = 0
    reference[:, :, :70] = 0
    put(harness, "source.tif", source)
    put(harness, "reference.tif", reference)
    outcome = align(harness, mode="translation")
    assert (outcome.result["dxPx"], outcome.result["dyPx"]) == pytest.approx((-5, 3), abs=0.02)
    assert outcome.result["validPixels"] == pytest.approx((SIDE - 90) * (SIDE - 60), rel=0.01)


def test_the_same_inputs_give_the_same_pixels(harness: ToolHarness, scene: Pixels, tmp_path: Path) -> None:
    put(harness, "source.tif", shifted(scene, right=5, down=-3))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    first = align(harness)
    pixels, figures = read(written(first)), numbers(first)
    (tmp_path / "again").mkdir()
    again = align(replace(harness, workdir=tmp_path / "again", threads=1))
    assert numbers(again) == pytest.approx(figures, abs=1e-5)
    assert np.array_equal(read(written(again)), pixels)


def test_two_unrelated_pictures_end_without_an_answer(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(canvas(77), left=0, top=0))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    with pytest.raises(
        TaskFailed, match=r"sharpness is \d\.\d \(at least 14\).*correlation is 0\.0"
    ) as caught:
        align(harness)
    assert (caught.value.code, caught.value.retryable) == ("no-reliable-match", False)
    assert list(harness.workdir.iterdir()) == []


def test_a_featureless_picture_ends_without_an_answer(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", np.full((3, SIDE, SIDE), 90, np.uint8))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    with pytest.raises(TaskFailed) as caught:
        align(harness)
    assert caught.value.code == "no-reliable-match"


def test_an_overlap_without_data_ends_without_an_answer(harness: ToolHarness, scene: Pixels) -> None:
    source, reference = cut(scene, left=0, top=0), cut(scene, left=0, top=0)
    source[:, :, 250:] = 0
    reference[:, :, :262] = 0
    put(harness, "source.tif", source)
    put(harness, "reference.tif", reference)
    with pytest.raises(TaskFailed) as caught:
        align(harness)
    assert caught.value.code == "no-reliable-match"


def test_a_regular_pattern_that_fits_in_many_places_ends_without_an_answer(harness: ToolHarness) -> None:
    rows, cols = np.mgrid[:SIDE, :SIDE]
    field = (128 + 80 * np.sin(2 * np.pi * cols / 16) * np.sin(2 * np.pi * rows / 16)).astype(np.uint8)
    put(harness, "source.tif", np.stack([np.roll(field, 5, axis=1)] * 3))
    put(harness, "reference.tif", np.stack([field] * 3))
    with pytest.raises(TaskFailed, match=r"another position fits 8\d% as well") as caught:
        align(harness)
    assert caught.value.code == "no-reliable-match"


# What the output keeps


def test_the_output_is_a_cog_that_keeps_what_the_source_says_of_itself(harness: ToolHarness) -> None:
    scene = canvas(3, side=728, bands=4).astype(np.uint16) * 50
    names, colours = (
        ["blue", "green", "red", "nir"],
        [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined],
    )
    put(
        harness,
        "source.tif",
        cut(scene, left=-40, top=30, side=600),
        descriptions=names,
        colours=colours,
        tags={"CAMERA": "one"},
    )
    put(harness, "reference.tif", cut(scene, left=0, top=0, side=600), descriptions=names)
    path = written(align(harness))
    valid, errors, _ = cog_validate(path)
    assert (valid, errors) == (True, [])
    with rasterio.open(path) as aligned:
        assert (aligned.dtypes[0], aligned.nodata, aligned.crs.to_epsg()) == ("uint16", 0, 32632)
        assert list(aligned.descriptions) == names
        assert list(aligned.colorinterp) == colours
        assert (aligned.tags()["CAMERA"], aligned.block_shapes[0], aligned.overviews(1)) == (
            "one",
            (256, 256),
            [2, 4],
        )
        assert (aligned.transform.a, aligned.transform.e) == (METRES, -METRES)
        # Whole pixels of the source's own grid.
        assert (aligned.transform.c - ORIGIN[0]) / METRES == pytest.approx(-40, abs=1e-6)
        assert (ORIGIN[1] - aligned.transform.f) / METRES == pytest.approx(30, abs=1e-6)


def test_without_a_nodata_value_a_mask_marks_the_empty_pixels(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0), nodata=None, transform=located()["transform"])
    centre = (SIDE + 128 - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), 2, 1)
    moved = np.stack([np.asarray(cv2.warpAffine(band, matrix, band.shape[::-1])) for band in scene])
    put(harness, "reference.tif", cut(moved, left=0, top=0), nodata=None)
    outcome = align(harness)
    with rasterio.open(written(outcome)) as aligned:
        mask = aligned.dataset_mask()
        assert (aligned.nodata, mask[0, 0], mask[aligned.height // 2, aligned.width // 2]) == (None, 0, 255)
        assert (mask > 0).sum() == outcome.result["validPixels"]


def test_transparency_stays_a_band(harness: ToolHarness, scene: Pixels) -> None:
    def with_alpha(pixels: Pixels) -> Pixels:
        alpha = np.full((1, SIDE, SIDE), 255, np.uint8)
        alpha[:, :60] = 0
        return np.concatenate([pixels, alpha])

    options: dict[str, Any] = {
        "nodata": None,
        "photometric": "RGB",
        "colours": [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha],
    }
    put(harness, "source.tif", with_alpha(shifted(scene, right=5, down=-3)), **options)
    put(harness, "reference.tif", with_alpha(cut(scene, left=0, top=0)), **options)
    outcome = align(harness)
    assert (outcome.result["dxPx"], outcome.result["dyPx"]) == pytest.approx((-5, 3), abs=0.03)
    with rasterio.open(written(outcome)) as aligned:
        assert aligned.colorinterp[3] == ColorInterp.alpha
        assert set(np.unique(aligned.read(4))) == {0, 255}


def test_a_palette_is_compared_by_its_colours_and_keeps_its_entries(harness: ToolHarness) -> None:
    classes = np.digitize(canvas(9, bands=1), np.linspace(20, 235, 12)[1:-1]).astype(np.uint8) + 1
    random = np.random.default_rng(4)
    table = {entry: (*random.integers(0, 256, 3).tolist(), 255) for entry in range(13)}
    for name, pixels in {
        "source": shifted(classes, right=5, down=-3),
        "reference": cut(classes, left=0, top=0),
    }.items():
        path = put(harness, f"{name}.tif", pixels, photometric="PALETTE")
        with rasterio.open(path, "r+") as opened:
            opened.write_colormap(1, table)
    outcome = align(harness, mode="translation")
    assert (outcome.result["dxPx"], outcome.result["dyPx"]) == pytest.approx((-5, 3), abs=0.05)
    with rasterio.open(written(outcome)) as aligned:
        assert aligned.colorinterp == (ColorInterp.palette,)
        assert aligned.colormap(1)[3] == table[3]
        assert set(np.unique(aligned.read(1))) <= set(range(13))


def test_numbers_that_are_none_become_nodata_and_spoil_nothing(harness: ToolHarness) -> None:
    heights = canvas(5, bands=1).astype(np.float32)
    source = shifted(heights, right=4, down=-3)
    source[0, 100:140, 100:140] = np.nan
    source[0, 300:330, 200:230] = np.inf
    put(harness, "source.tif", source, nodata=None)
    put(harness, "reference.tif", cut(heights, left=0, top=0), nodata=None)
    outcome = align(harness)
    assert (outcome.result["dxPx"], outcome.result["dyPx"]) == pytest.approx((-4, 3), abs=0.03)
    with rasterio.open(written(outcome)) as aligned:
        pixels = aligned.read(1)
        assert np.isnan(aligned.nodata)
    assert np.isfinite(pixels).sum() == outcome.result["validPixels"]
    assert not np.isinf(pixels).any()
    assert np.nanmin(pixels) > 0


# Log, progress and warnings


def test_the_log_and_the_progress_can_be_followed(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", shifted(scene, right=5, down=-3))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    outcome = align(harness)
    assert outcome.log[0] == "Reading 'source.tif': 512 × 512 pixels, 3 band(s) of uint8, EPSG:32632."
    assert outcome.log[2] == (
        "The overlap is 100% of the smaller raster; comparing band 1 of the source with band 1 of the reference."
    )
    assert outcome.log[3].startswith("Initial estimate by ")
    assert "patches agree with an RMSE of 0.0" in outcome.log[4]
    assert outcome.log[5].startswith("Wrote 'aligned.tif': 512 × 512 pixels, ")
    fractions = [step.fraction for step in outcome.progress]
    assert all(before <= after for before, after in pairwise(fractions))
    assert fractions[-1] == 1
    assert {"comparing", "moving pixels", "arranging the COG", "done"} <= {
        step.phase for step in outcome.progress
    }
    assert json.loads(json.dumps(outcome.result, allow_nan=False)) == outcome.result
    assert set(outcome.result) >= {
        "dx", "dy", "dxPx", "dyPx", "rotationDeg", "scale", "dz", "inliers", "inlierRatio", "rmsePx", "confidence", "mode",
    }  # fmt: skip


@pytest.mark.parametrize("phase", ["comparing", "moving pixels"])
def test_a_cancelled_run_declares_nothing(harness: ToolHarness, scene: Pixels, phase: str) -> None:
    put(harness, "source.tif", shifted(scene, right=5, down=-3))
    put(harness, "reference.tif", cut(scene, left=0, top=0))

    def emit(event: RunProgress | LogLine) -> None:
        if isinstance(event, RunProgress) and event.phase == phase:
            raise Cancelled

    inputs = {path: harness.dataset / path for path in ("source.tif", "reference.tif")}
    run = Run(inputs=inputs, workdir=harness.workdir, threads=2, emit=emit)
    with pytest.raises(Cancelled):
        TOOL.run(AlignRasterParams.model_validate_json(json.dumps(PARAMS)), run)
    assert run.changes().edits == ()
    assert not (harness.workdir / "aligned.tif").exists()


# What is refused


def refusal(harness: ToolHarness, **params: Any) -> InvalidInput:
    """The refusal at submit, which must be that of the run as well."""
    with pytest.raises(InvalidInput) as at_submit:
        harness.check(TOOL, PARAMS | params)
    with pytest.raises(InvalidInput) as in_run:
        ToolHarness(harness.dataset, harness.workdir).run(TOOL, PARAMS | params)
    assert in_run.value.code == at_submit.value.code
    assert list(harness.workdir.iterdir()) == []
    return at_submit.value


def test_disjoint_rasters_are_refused_at_submit(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    put(harness, "reference.tif", cut(scene, left=0, top=0), **located(right=5000))
    assert refusal(harness).code == "no-overlap"


@pytest.mark.parametrize(("right_px", "refused"), [(480, False), (492, True)])
def test_a_twentieth_of_the_smaller_raster_must_overlap(
    harness: ToolHarness, scene: Pixels, right_px: int, *, refused: bool
) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    put(harness, "reference.tif", cut(scene, left=0, top=0), **located(right=right_px * METRES))
    if refused:
        assert "overlap by 3.9%" in refusal(harness).message
    else:
        harness.check(TOOL, PARAMS)


def test_a_raster_without_a_crs_is_refused(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    put(harness, "reference.tif", cut(scene, left=0, top=0), crs=None)
    error = refusal(harness)
    assert error.code == "missing-crs"
    assert "'reference.tif' has no CRS" in error.message


def test_a_raster_with_control_points_only_is_refused(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    by_control_points(harness.dataset / "reference.tif", corner_points(), "EPSG:32632")
    error = refusal(harness)
    assert error.code == "missing-crs"
    assert "'reference.tif' is georeferenced by control points only: warp it" in error.message


def test_a_world_file_and_a_prj_are_as_good_as_tags(harness: ToolHarness, scene: Pixels) -> None:
    source = put(harness, "source.tif", shifted(scene, right=5, down=-3))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    expected = align(harness, mode="translation").result
    with rasterio.open(source) as tagged:
        grid, crs = tagged.transform, tagged.crs
    put(harness, "source.tif", shifted(scene, right=5, down=-3), crs=None, transform=None)
    centre = grid * (0.5, 0.5)
    numbers = (grid.a, grid.d, grid.b, grid.e, *centre)
    source.with_suffix(".tfw").write_text("\n".join(map(repr, numbers)))
    source.with_suffix(".prj").write_text(crs.to_wkt(version="WKT1_ESRI"))
    outcome = align(harness, mode="translation")
    assert outcome.result == expected
    with rasterio.open(written(outcome)) as aligned:
        assert aligned.crs == crs
    blobs = {
        name: harness.dataset / name for name in ("source.tif", "source.tfw", "source.prj", "reference.tif")
    }
    stored = {
        name: path.rename(harness.workdir / f"blob-{number}")
        for number, (name, path) in enumerate(blobs.items())
    }
    assert TOOL.preview(AlignRasterParams.model_validate(PARAMS), stored, longest_px=64).startswith(b"RIFF")


def test_what_is_no_raster_is_refused(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    (harness.dataset / "reference.tif").write_text("just words")
    with pytest.raises(InvalidInput) as at_submit:
        harness.check(TOOL, PARAMS)
    assert at_submit.value.code == "not-a-raster"
    with pytest.raises(InvalidInput) as in_run:
        ToolHarness(harness.dataset, harness.workdir).run(TOOL, PARAMS)
    assert in_run.value.code == "unreadable-raster"


@pytest.mark.parametrize("output", ["source.tif", "reference.tif"])
def test_an_input_is_not_written_over(harness: ToolHarness, scene: Pixels, output: str) -> None:
    for name in ("source.tif", "reference.tif"):
        put(harness, name, cut(scene, left=0, top=0))
    assert refusal(harness, outputPath=output).code == "output-is-input"


def test_a_raster_is_not_aligned_with_itself(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    assert refusal(harness, referencePath="source.tif").code == "same-raster"


@pytest.mark.parametrize("path", [".ddb/x.tif", ".ddb", "../x.tif", "/x.tif"])
def test_a_reserved_or_unsafe_output_does_not_fit_the_schema(harness: ToolHarness, path: str) -> None:
    with pytest.raises(ValidationError, match="path"):
        harness.check(TOOL, PARAMS | {"outputPath": path})


def test_rasters_in_different_crs_are_compared_by_their_footprints(scene: Pixels, tmp_path: Path) -> None:
    near = extract_raster(write_raster(tmp_path / "near.tif", scene))
    far = extract_raster(write_raster(tmp_path / "far.tif", scene, crs="EPSG:32633"))

    def check(one: Any, other: Any) -> None:
        entries = {
            name: EntryView(
                name, "geoRaster", "0" * 64, 1000, indexed=True,
                properties=each.profile.to_properties(), polygon_geom=each.footprint,
            )
            for name, each in {"source.tif": one, "reference.tif": other}.items()
        }  # fmt: skip
        TOOL.check(AlignRasterParams.model_validate_json(json.dumps(PARAMS)), DatasetView("ds", entries))

    with pytest.raises(InvalidInput) as caught:
        check(near, far)
    assert caught.value.code == "no-overlap"
    check(near, near)


def test_before_they_are_indexed_the_run_finds_it(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    put(harness, "reference.tif", cut(scene, left=0, top=0), **located(right=5000))
    ToolHarness(harness.dataset, harness.workdir).check(TOOL, PARAMS)


def test_the_plan_names_what_is_read_and_written(harness: ToolHarness, scene: Pixels) -> None:
    put(harness, "source.tif", cut(scene, left=0, top=0))
    put(harness, "reference.tif", cut(scene, left=0, top=0))
    plan = harness.check(TOOL, PARAMS)
    assert plan.reads == ("source.tif", "reference.tif")
    assert plan.writes == ("aligned.tif",)
    assert (plan.memory_bytes, plan.estimated_output_bytes) == (1024**3, round(SIDE * SIDE * 3 * 1.7))


def test_checking_loads_no_gdal_and_no_opencv() -> None:
    code = (
        "import sys, aerotask.tools.align_raster; "
        "assert not {'rasterio', 'cv2'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

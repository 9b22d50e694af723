"""Colours of a single band where none are chosen: greys, or the band's own colour table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from tests.raster.rasters import export, read, write_raster

from aerotask.domain.errors import InvalidInput

TABLE = {0: (0, 0, 0, 0), 1: (10, 120, 30, 255), 2: (200, 180, 90, 255), 3: (20, 60, 220, 255)}
CLASSES = np.array([[[1, 2, 3], [3, 0, 1]]], np.uint8)


def land_cover(path: Path, *, nodata: int | None = None, mask: np.ndarray | None = None) -> Path:
    write_raster(path, CLASSES, nodata=nodata, mask=mask)
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, TABLE)
    return path


@pytest.mark.parametrize("parameters", [{}, {"bands": "1"}])
def test_a_single_band_is_shown_in_greys(tmp_path: Path, parameters: dict[str, Any]) -> None:
    source = write_raster(tmp_path / "in.tif", np.arange(101, dtype=np.float32).reshape(1, 1, 101))
    export(source, tmp_path / "out.tif", **parameters)
    pixels = read(tmp_path / "out.tif")
    assert pixels[:, 0, [0, 2, 50, 98, 100]].tolist() == [[0, 0, 127, 255, 255]] * 3 + [[255] * 5]


def test_a_formula_has_the_colours_of_indices(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", np.array([[[0, 1]]], np.float32))
    export(source, tmp_path / "out.tif", formula="b1", rescale="0,1")
    assert read(tmp_path / "out.tif")[:3, 0].T.tolist() == [[0xD7, 0x30, 0x27], [0x1A, 0x98, 0x50]]


@pytest.mark.parametrize("parameters", [{}, {"bands": "1"}, {"format": "cog"}])
def test_a_palette_raster_keeps_its_colours(tmp_path: Path, parameters: dict[str, Any]) -> None:
    export(land_cover(tmp_path / "in.tif", nodata=0), tmp_path / "out.tif", **parameters)
    expected = np.array([[TABLE[entry] for entry in row] for row in CLASSES[0].tolist()])
    assert np.moveaxis(read(tmp_path / "out.tif"), 0, -1).tolist() == expected.tolist()


def test_a_palette_raster_keeps_its_colour_table_in_a_palette(tmp_path: Path) -> None:
    mask = np.array([[255, 255, 0], [255, 255, 255]], np.uint8)
    export(land_cover(tmp_path / "in.tif", nodata=0, mask=mask), tmp_path / "out.tif", format="palette")
    with rasterio.open(tmp_path / "out.tif") as opened:
        assert (opened.colorinterp, opened.nodata) == ((ColorInterp.palette,), 0)
        assert opened.read(1).tolist() == [[1, 2, 0], [3, 0, 1]]
        assert {entry: opened.colormap(1)[entry][:3] for entry in (1, 2, 3)} == {
            entry: TABLE[entry][:3] for entry in (1, 2, 3)
        }


def test_transparent_pixels_are_not_lost_in_a_palette(tmp_path: Path) -> None:
    mask = np.array([[255, 255, 0], [255, 255, 255]], np.uint8)
    source = land_cover(tmp_path / "in.tif", mask=mask)
    with pytest.raises(InvalidInput, match="no entry of its colour table") as caught:
        export(source, tmp_path / "out.tif", format="palette")
    assert caught.value.code == "palette-impossible"
    export(source, tmp_path / "rgba.tif")
    assert read(tmp_path / "rgba.tif")[3].tolist() == [[255, 255, 0], [255, 255, 255]]


def test_a_palette_without_a_colour_table_is_exported_in_greys(tmp_path: Path) -> None:
    pixels = np.array([[[0, 200]]], np.uint8)
    source = write_raster(tmp_path / "in.tif", pixels, colours=(ColorInterp.palette,))
    export(source, tmp_path / "out.tif", rescale="0,200")
    assert read(tmp_path / "out.tif")[:, 0].T.tolist() == [[0, 0, 0, 255], [255, 255, 255, 255]]


@pytest.mark.parametrize("parameters", [{"rescale": "1,3"}, {"colormap": "grayscale", "rescale": "1,3"}])
def test_chosen_colours_replace_those_of_the_palette(tmp_path: Path, parameters: dict[str, Any]) -> None:
    export(land_cover(tmp_path / "in.tif", nodata=0), tmp_path / "out.tif", **parameters)
    assert read(tmp_path / "out.tif")[0].tolist() == [[0, 127, 255], [255, 0, 0]]

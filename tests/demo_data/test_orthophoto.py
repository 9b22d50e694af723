"""Synthetic orthophoto: georeference, outline, reproducibility and content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.raster.rasters import export, read

from aerotask.demo_data.farmland import Farmland
from aerotask.demo_data.noise import Area, layered_noise
from aerotask.demo_data.orthophoto import orthophoto_pixels, write_orthophoto
from aerotask.raster.export.preview import write_preview


@pytest.fixture(scope="module")
def orthophoto(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("orthophoto") / "orthophoto.tif"
    write_orthophoto(path, size_px=1100, seed=7)
    return path


def test_it_is_a_georeferenced_multispectral_tiff(orthophoto: Path) -> None:
    with rasterio.open(orthophoto) as opened:
        assert (opened.count, opened.shape, opened.dtypes[0], opened.nodata) == (5, (1100, 1100), "uint16", 0)
        assert opened.descriptions == ("red", "green", "blue", "nir", "rededge")
        assert opened.crs.to_epsg() == 32632
        assert opened.block_shapes[0] == (512, 512)
        assert opened.profile["compress"] == "deflate"


def test_it_has_a_slanted_outline(orthophoto: Path) -> None:
    with rasterio.open(orthophoto) as opened:
        inside = opened.read_masks(1) > 0
    assert 0.6 < inside.mean() < 0.8
    assert not inside[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert inside[550, 550]


def test_the_same_seed_gives_the_same_pixels_with_any_number_of_threads(
    orthophoto: Path, tmp_path: Path
) -> None:
    write_orthophoto(tmp_path / "again.tif", size_px=1100, seed=7, threads=4)
    np.testing.assert_array_equal(read(tmp_path / "again.tif"), read(orthophoto))


def test_another_seed_gives_another_landscape(orthophoto: Path) -> None:
    window = (slice(512, 576), slice(512, 576))
    other = orthophoto_pixels(Farmland(8), window, size_px=1100, bands=5)
    assert (other != read(orthophoto)[:, 512:576, 512:576]).mean() > 0.9


def test_it_holds_plants_and_bare_ground(orthophoto: Path, tmp_path: Path) -> None:
    export(orthophoto, tmp_path / "ndvi.tif", formula="NDVI", colormap="none")
    ndvi = read(tmp_path / "ndvi.tif")
    low, high = np.nanpercentile(ndvi, (5, 95))
    assert 0.05 < low < 0.35
    assert 0.5 < high < 0.95


def test_an_orthophoto_can_have_fewer_bands(tmp_path: Path) -> None:
    write_orthophoto(tmp_path / "four.tif", size_px=100, bands=4)
    assert read(tmp_path / "four.tif").shape == (4, 100, 100)
    with pytest.raises(ValueError, match="1 to 5 bands"):
        write_orthophoto(tmp_path / "six.tif", size_px=100, bands=6)


def test_noise_does_not_depend_on_the_window() -> None:
    whole = layered_noise(Area(-40, 100, (120, 130)), steps_px=(50, 9), salt=3)
    part = layered_noise(Area(7, 133, (30, 20)), steps_px=(50, 9), salt=3)
    np.testing.assert_array_equal(whole[47:77, 33:53], part)
    assert np.abs(whole).max() <= 1


def test_a_preview_is_a_small_picture(orthophoto: Path, tmp_path: Path) -> None:
    export(orthophoto, tmp_path / "ndvi.tif", formula="NDVI")
    write_preview(tmp_path / "ndvi.tif", tmp_path / "ndvi.png", longest_px=220)
    pixels = read(tmp_path / "ndvi.png")
    assert pixels.shape == (4, 220, 220)
    assert pixels[:, 0, 0].tolist()[3] == 0
    assert pixels[3, 110, 110] == 255
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ndvi.png", "ndvi.tif"]


def test_a_preview_is_never_larger_than_its_raster(orthophoto: Path, tmp_path: Path) -> None:
    export(orthophoto, tmp_path / "ndvi.tif", formula="NDVI")
    write_preview(tmp_path / "ndvi.tif", tmp_path / "ndvi.png", longest_px=9000)
    np.testing.assert_array_equal(read(tmp_path / "ndvi.png"), read(tmp_path / "ndvi.tif"))


def test_a_preview_needs_an_rgba_raster(orthophoto: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="red, green, blue and alpha"):
        write_preview(orthophoto, tmp_path / "out.png")

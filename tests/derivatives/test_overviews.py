"""Overviews made when a raster arrives: those of its COG, with the COG's statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from tests.raster.rasters import write_raster

from aerotask.derivatives.cog import build_cog
from aerotask.derivatives.kinds import lacks_overviews
from aerotask.derivatives.overviews import build_overviews
from aerotask.domain.errors import InvalidInput
from aerotask.metadata.extract import extract_metadata
from aerotask.raster.io import open_raster

RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def noise(bands: int, rows: int, cols: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 250, (bands, rows, cols)).astype(np.uint8)


def transparent_above(pixels: np.ndarray, row: int) -> np.ndarray:
    alpha = np.full((1, *pixels.shape[1:]), 255, np.uint8)
    alpha[:, :row] = 0
    return np.concatenate([pixels, alpha])


def levels(path: Path) -> list[np.ndarray]:
    """The image and its overviews."""
    with open_raster(path) as opened:
        numbers = range(len(opened.overviews(1)))
        found = [opened.read()]
    for number in numbers:
        with open_raster(path, overview_level=number) as level:
            found.append(level.read())
    return found


@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
def test_they_are_the_overviews_and_statistics_of_the_cog(tmp_path: Path, *, tiled: bool) -> None:
    pixels = transparent_above(noise(3, 1301, 2203), 600)
    layout: dict[str, Any] = {"tiled": True, "blockxsize": 256, "blockysize": 256} if tiled else {}
    source = write_raster(
        tmp_path / "a.tif", pixels, colours=RGBA, photometric="RGB", alpha="unspecified", **layout
    )
    found = build_overviews(source, tmp_path / "made.tif", threads=2)
    cog = build_cog(source, tmp_path / "cog.tif", threads=2, on_progress=lambda _share: None)

    of_cog, made = levels(tmp_path / "cog.tif")[1:], levels(tmp_path / "made.tif")
    assert [level.shape[1:] for level in made] == [(651, 1102), (326, 551), (163, 276)]
    for expected, level in zip(of_cog, made, strict=True):
        np.testing.assert_array_equal(level, expected)
    for mine, of_cog_band in zip(found["bands"], cog["bands"], strict=True):
        assert mine.pop("percentiles") == of_cog_band.pop("percentiles")
        assert mine == pytest.approx(of_cog_band, rel=1e-12)  # but for the order in which parts are added up
    assert [band["validPercent"] for band in found["bands"]] == [
        pytest.approx(100 * 701 / 1301, abs=1e-3)
    ] * 3


def test_a_damaged_raster_has_none(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "a.tif", noise(1, 1200, 1200), compress="deflate")
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    with pytest.raises(InvalidInput) as refused:
        build_overviews(source, tmp_path / "made.tif", threads=2)
    assert refused.value.code in {"damaged-raster", "unreadable-raster"}
    assert not (tmp_path / "made.tif").exists()


def is_lacking(path: Path) -> bool:
    found = extract_metadata(path)
    return lacks_overviews(found.type, found.properties)


def test_only_what_a_build_would_add_is_made(tmp_path: Path) -> None:
    large = noise(1, 700, 1100)
    bare = write_raster(tmp_path / "bare.tif", large)
    assert is_lacking(bare)
    assert is_lacking(write_raster(tmp_path / "some.tif", noise(1, 2300, 2300), overviews=[2]))
    assert not is_lacking(write_raster(tmp_path / "small.tif", large[:, :512, :512]))
    assert not is_lacking(write_raster(tmp_path / "with.tif", large, overviews=[2, 4]))
    cog = write_raster(tmp_path / "cog.tif", large, driver="COG", overviews=[])
    assert not is_lacking(cog)
    # Off the map only the thumbnail is drawn of it, for which so small a raster is read whole; photos decode reduced.
    plain = {"crs": None, "transform": rasterio.Affine.identity()}
    assert not is_lacking(write_raster(tmp_path / "plain.tif", large, **plain))
    assert not is_lacking(write_raster(tmp_path / "photo.jpg", large, driver="JPEG", **plain))
    assert is_lacking(write_raster(tmp_path / "survey.tif", np.zeros((8, 3000, 3000), np.uint8), **plain))

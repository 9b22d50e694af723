"""Rasters of other projects' test suites, from a folder on demand: everything reads as by GDAL's masked read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.raster.rasters import Pixels

from aerotask.derivatives.cog import build_cog
from aerotask.domain.errors import InvalidInput
from aerotask.raster.header import read_profile
from aerotask.raster.io import GDAL_OPTIONS, open_raster
from aerotask.raster.pixels import BandReader

REFUSALS = {"not-georeferenced", "damaged-raster", "unreadable-raster", "unsupported-layout"}
FACTS = ("crs", "dtypes", "descriptions", "colorinterp", "scales", "offsets", "units", "mask_flag_enums")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.filterwarnings("ignore::rasterio.errors.NodataShadowWarning")
def test_cogs_and_bands_have_the_pixels_of_gdals_masked_read(tmp_path: Path) -> None:
    folder = os.environ.get("AEROTASK_TEST_RASTERS")
    if not folder:
        pytest.skip("AEROTASK_TEST_RASTERS names no folder with rasters to compare")
    files = sorted(Path(folder).rglob("*.tif"))
    assert files
    assert [f"{file.name}: {what}" for file in files for what in different(file, tmp_path)] == []


def different(file: Path, folder: Path) -> Iterator[str]:
    """Differences between the raster, its COG, and what exports and tiles read of it."""
    target = folder / "made.tif"
    target.unlink(missing_ok=True)
    try:
        build_cog(file, target, threads=2, on_progress=lambda _share: None)
    except InvalidInput as refused:
        if refused.code not in REFUSALS:
            yield f"refused: {refused.code}"
        if refused.code != "not-georeferenced":
            return
    with rasterio.Env(**GDAL_OPTIONS), rasterio.open(file) as source:
        yield from different_bands(file, source)
        if target.exists():
            with rasterio.open(target) as made:
                yield from different_cog(source, made)


def different_cog(source: Any, made: Any) -> Iterator[str]:
    yield from (fact for fact in FACTS if getattr(made, fact) != getattr(source, fact))
    if not made.transform.almost_equals(source.transform, precision=1e-9):
        yield "transform"
    if str(made.nodatavals) != str(source.nodatavals):
        yield "nodata"
    for band in source.indexes:
        before, after = source.read(band, masked=True), made.read(band, masked=True)
        np.testing.assert_array_equal(before.data, after.data)
        if not np.array_equal(np.ma.getmaskarray(before), np.ma.getmaskarray(after)):
            yield f"mask of band {band}"
        if made.tags(band) != source.tags(band):
            yield f"tags of band {band}"


def different_bands(file: Path, source: Any) -> Iterator[str]:
    """Values and validity of each band, as exports and tiles read them."""
    whole = slice(0, source.height), slice(0, source.width)
    with open_raster(file) as opened:
        profile = read_profile(opened)
        for band in profile.data_bands:
            if profile.bands[band - 1].dtype.startswith("complex"):
                continue
            reader = BandReader(opened, profile, (band,))
            block = reader.read(whole)
            values = np.zeros(source.shape, np.float32)
            valid = np.zeros(source.shape, np.bool_)
            for chunk in reader.chunks(block, whole):
                values[chunk.rows] = chunk.planes[0].reshape(-1, source.width)
                valid[chunk.rows] = chunk.valid.reshape(-1, source.width)
            known = known_values(source, band, profile.alpha_band)
            if not np.array_equal(valid, ~np.ma.getmaskarray(known)):
                yield f"validity of band {band}"
            elif not np.array_equal(values[valid], known.data[valid].astype(np.float32)):
                yield f"values of band {band}"


def known_values(source: Any, band: int, alpha: int | None) -> Any:
    """The band by GDAL's mask, without what isn't finite or is transparent."""
    read: Any = source.read(band, masked=True)
    known: Any = np.ma.masked_invalid(read) if read.dtype.kind == "f" else read
    if alpha is None:
        return known
    opacity: Pixels = source.read(alpha)
    return np.ma.masked_where(opacity == 0, known)

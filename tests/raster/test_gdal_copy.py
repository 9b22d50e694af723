"""GDAL's copy in a thread: progress and failures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rio_cogeo.cogeo import cog_validate
from tests.raster.rasters import read, slope, write_raster

from aerotask.raster.gdal_copy import copy_raster
from aerotask.sdk import Cancelled

COG = {"driver": "COG", "compress": "DEFLATE"}


def test_a_copy_has_the_same_pixels(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", slope((600, 600)))
    ticks: list[int] = []
    copy_raster(source, tmp_path / "out.tif", COG, on_tick=lambda: ticks.append(1))
    assert ticks
    assert cog_validate(tmp_path / "out.tif", quiet=True)[0]
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), read(source))


def test_an_exception_from_on_tick_ends_the_wait(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "in.tif", slope((600, 600)))

    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        copy_raster(source, tmp_path / "out.tif", COG, on_tick=cancel)


COPY_WITH_LIMIT = """
import resource, sys
from pathlib import Path
from aerotask.raster.gdal_copy import copy_raster
from aerotask.raster.io import GDAL_ERRORS
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    copy_raster(Path(sys.argv[1]), Path(sys.argv[2]), {"driver": "COG"}, on_tick=lambda: None)
except GDAL_ERRORS:
    print("GDAL's error")
"""


def test_a_copy_that_cannot_be_written_raises_gdals_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 9999, (2, 600, 600)).astype(np.uint16)
    source = write_raster(tmp_path / "in.tif", noise)
    command = [sys.executable, "-c", COPY_WITH_LIMIT, str(source), str(tmp_path / "out.tif")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "GDAL's error"

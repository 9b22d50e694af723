"""Makes a cloud-optimised GeoTIFF of a finished one, with GDAL's own driver."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil

from aerotask.domain.errors import TaskFailed
from aerotask.raster.io import GDAL_OPTIONS, quiet_about_georeference
from aerotask.raster.tiff.codec import DEFLATE_LEVEL

FULL_DISK_BYTES = 16 * 1024 * 1024
"""GDAL doesn't say why it couldn't write; with less than this free, the disk is taken to be full."""

_TICK_S = 0.2


def write_cog(
    image: Path,
    target: Path,
    *,
    threads: int,
    on_progress: Callable[[float], None],
    predictor: bool | None = None,
) -> None:
    """Rewrite the GeoTIFF at `image`, its overviews included, as a COG at `target`, which must not exist.

    Without a word about the predictor, it is used for floating numbers.

    GDAL's copy can't be interrupted: where `on_progress` raises, it goes on in its thread until the process ends.

    Raises:
        OSError: the disk is full (`ENOSPC`).
        TaskFailed: the copy failed for another reason (`cog-failed`).
    """
    copy = _Copy(image, target, _options(image, threads=threads, predictor=predictor))
    copy.start()
    expected_bytes = image.stat().st_size
    while copy.is_alive():
        copy.join(_TICK_S)
        written = target.stat().st_size if target.exists() else 0
        on_progress(min(written / expected_bytes, 0.99))
    if copy.error:
        if shutil.disk_usage(target.parent).free < FULL_DISK_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from copy.error
        raise TaskFailed("GDAL could not write the COG.", code="cog-failed") from copy.error
    on_progress(1)


def _options(image: Path, *, threads: int, predictor: bool | None) -> dict[str, Any]:
    with rasterio.Env(**GDAL_OPTIONS), quiet_about_georeference(), rasterio.open(image) as opened:
        has_overviews, is_float = bool(opened.overviews(1)), opened.dtypes[0] == "float32"
        block_px = opened.block_shapes[0][0]
    return {
        "driver": "COG",
        "blocksize": block_px,
        "compress": "DEFLATE",
        "level": DEFLATE_LEVEL,
        "num_threads": threads,
        "overviews": "FORCE_USE_EXISTING" if has_overviews else "NONE",
        "predictor": "YES" if (is_float if predictor is None else predictor) else "NO",
        "bigtiff": "IF_SAFER",
    }


class _Copy(threading.Thread):
    """The copy in a thread of its own; `error` is what it ended with."""

    def __init__(self, image: Path, target: Path, options: dict[str, Any]) -> None:
        super().__init__(name="raster-cog", daemon=True)
        self.error: BaseException | None = None
        self._image, self._target, self._options = image, target, options

    def run(self) -> None:
        try:
            with rasterio.Env(**GDAL_OPTIONS), quiet_about_georeference():
                rasterio.shutil.copy(self._image, self._target, **self._options)
        # The thread's edge: it is raised again where the thread was started.
        except BaseException as error:  # noqa: BLE001
            self.error = error

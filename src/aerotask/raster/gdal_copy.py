"""GDAL's copy of a raster to another format, in a thread of its own so that progress can be reported."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil

from aerotask.raster.io import CACHE_MB, GDAL_OPTIONS, without_georeference_warnings

FULL_DISK_BYTES = 16 * 1024 * 1024
"""With less than this free, a failed write is taken for a full disk: GDAL doesn't give the reason."""

_TICK_S = 0.1


def copy_raster(
    source: Any,
    target: Path,
    options: Mapping[str, Any],
    *,
    on_tick: Callable[[], None],
    cache_mb: int = CACHE_MB,
) -> None:
    """Copy a raster (a path, or one that is open) to `target` with the driver and creation options of `options`.

    `on_tick` is called ten times a second. GDAL's copy can't be interrupted: if `on_tick` raises, the copy continues
    in its thread until the process ends.

    Raises:
        OSError: the disk is full (`ENOSPC`).
        RasterioError | CPLE_BaseError: the copy failed for another reason (`raster.io.GDAL_ERRORS`).
    """
    copy = _CopyThread(source, target, options, cache_mb)
    copy.start()
    while copy.is_alive():
        copy.join(_TICK_S)
        on_tick()
    if copy.error:
        raise_if_disk_full(target.parent, copy.error)
        raise copy.error


def raise_if_disk_full(folder: Path, error: BaseException) -> None:
    """Raise `OSError` (`ENOSPC`) from GDAL's error if the folder's disk has hardly any space left."""
    if shutil.disk_usage(folder).free < FULL_DISK_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


class _CopyThread(threading.Thread):
    """The thread that copies; `error` is the exception that ended it."""

    def __init__(self, source: Any, target: Path, options: Mapping[str, Any], cache_mb: int) -> None:
        super().__init__(name="gdal-copy", daemon=True)
        self.error: BaseException | None = None
        self._source, self._target, self._options, self._cache_mb = source, target, options, cache_mb

    def run(self) -> None:
        try:
            with (
                rasterio.Env(**GDAL_OPTIONS | {"GDAL_CACHEMAX": self._cache_mb}),
                without_georeference_warnings(),
            ):
                rasterio.shutil.copy(self._source, self._target, **self._options)
        # The thread's edge: the error is raised again in the thread that started this one.
        except BaseException as error:  # noqa: BLE001
            self.error = error

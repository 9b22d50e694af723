"""The one door through which files from outside reach GDAL.

A file is opened by the one driver that its first bytes call for, no sidecar file is looked at, nothing is fetched
from a network, and the header's claims are checked before anything is allocated. (A VRT that calls itself `.tif`
could otherwise read any local file or URL; a TIFF of 29 MB can declare 5 TB of pixels.)
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown

SIGNATURES = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}
"""How a file must begin, and the only driver that may then open it."""

MAX_PIXELS = 100_000_000_000
"""Of one band: more than 300,000 × 300,000."""
MAX_BANDS = 1024
MAX_BLOCK_BYTES = 256 * 1024 * 1024
"""Of one block in all bands that are stored together: GDAL decodes no less at a time."""
MAX_INFLATION = 20_000
"""Declared bytes for each byte of the file, where more than `ALWAYS_ALLOWED_BYTES` are declared."""
ALWAYS_ALLOWED_BYTES = 4 * 1024**3

CACHE_MB = 32
"""GDAL's block cache; unset it would take 5 % of the machine's memory."""

GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_CACHEMAX": CACHE_MB,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": False,
    "GDAL_NUM_THREADS": 1,
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "PROJ_NETWORK": False,
}

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises for GDAL: its own errors, and in some places GDAL's as they are."""

# `catch_warnings` swaps the process's list of filters: one thread at a time.
_FILTERING = threading.Lock()


@contextmanager
def open_raster(path: Path, *, overview_level: int | None = None) -> Iterator[Any]:
    """The raster at `path`, opened for reading by this thread alone; errors of GDAL within become `InvalidInput`.

    Raises:
        InvalidInput: it is no raster of a known kind (`unreadable-raster`), declares more than is sensible
            (`raster-too-large`, `unsupported-layout`), or its pixels can't be read (`damaged-raster`).
    """
    options = {} if overview_level is None else {"overview_level": overview_level}
    with rasterio.Env(**GDAL_OPTIONS):
        source = _open(path, options)
        with source, gdal_errors_as_damage():
            _check_header(source, path.stat().st_size)
            yield source


@contextmanager
def gdal_errors_as_damage() -> Iterator[None]:
    """Have errors of GDAL within the block become `InvalidInput` (`damaged-raster`)."""
    try:
        yield
    except GDAL_ERRORS as error:
        raise InvalidInput(
            "A part of the raster can't be read: the file is damaged or incomplete. Upload it again.",
            code="damaged-raster",
        ) from error


@contextmanager
def without_georeference_warnings() -> Iterator[None]:
    """Keep rasterio from warning that a plain image has no georeference; it may have none."""
    with _FILTERING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _open(path: Path, options: dict[str, Any]) -> Any:
    with path.open("rb") as content:
        start = content.read(512)
    driver = next((name for signature, name in SIGNATURES.items() if start.startswith(signature)), None)
    if driver is None:
        raise InvalidInput(
            f"{shown(path.name)} is not a readable raster: {_impression(start)}.", code="unreadable-raster"
        )
    with without_georeference_warnings():
        try:
            return rasterio.open(path, driver=driver, sharing=False, **options)
        # Beside GDAL's own refusals, a mutilated header can make rasterio stumble while it describes the file.
        except (*GDAL_ERRORS, ValueError, TypeError, OverflowError) as error:
            raise InvalidInput(
                f"{shown(path.name)} is not a readable raster: it begins like one ({driver}), but what follows is "
                "damaged, incomplete or of a kind that isn't supported.",
                code="unreadable-raster",
            ) from error


def _impression(start: bytes) -> str:
    """What a file that isn't a raster looks like instead."""
    if not start:
        return "it is empty"
    if b"<VRTDataset" in start:
        return "it is a VRT, which only points to other files; upload the rasters themselves"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return "it is text"
    return "its content is of no kind that is read here (TIFF, PNG, JPEG, JPEG 2000)"


def _check_header(source: Any, file_bytes: int) -> None:
    item_bytes = max(_item_bytes(dtype) for dtype in source.dtypes)
    if source.count > MAX_BANDS:
        raise InvalidInput(
            f"The raster has {source.count} bands; at most {MAX_BANDS} are read.", code="unsupported-layout"
        )
    pixels = source.width * source.height
    declared_bytes = pixels * source.count * item_bytes
    inflated = declared_bytes > max(ALWAYS_ALLOWED_BYTES, file_bytes * MAX_INFLATION)
    if pixels > MAX_PIXELS or inflated:
        raise InvalidInput(
            f"The raster declares {source.width} × {source.height} pixels ({declared_bytes / 1e9:,.0f} GB) in a file "
            f"of {file_bytes / 1e6:,.1f} MB. That is more than is read here; cut it into parts.",
            code="raster-too-large",
        )
    if block_bytes(source) > MAX_BLOCK_BYTES:
        raise InvalidInput(
            f"The raster is stored in blocks of {block_bytes(source) / 1e6:,.0f} MB; at most "
            f"{MAX_BLOCK_BYTES / 1e6:,.0f} MB are read. Store it tiled ('gdal_translate -co TILED=YES').",
            code="unsupported-layout",
        )


def block_bytes(source: Any) -> int:
    """The size of the largest piece that GDAL decodes at once."""
    together = source.count if source.profile.get("interleave") == "pixel" else 1
    sizes = (
        rows * cols * _item_bytes(dtype) * together
        for (rows, cols), dtype in zip(source.block_shapes, source.dtypes, strict=True)
    )
    return int(max(sizes))


def _item_bytes(dtype: str) -> int:
    digits = "".join(character for character in dtype if character.isdigit())
    return max(int(digits or 8) // 8, 1)

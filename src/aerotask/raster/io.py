"""Safe opening of untrusted rasters with GDAL; every uploaded file is opened here.

A file is opened by the one driver that matches its first bytes, GDAL's sidecar files and the network are off, and the
header's sizes are checked before anything is allocated. (A VRT named `.tif` could otherwise read any local file or URL; a TIFF of 29 MB can declare 5 TB of pixels.)
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError, CPLE_OutOfMemoryError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, TransformError

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.raster.compression import missing_compression
from aerotask.raster.georeference.side_files import lacks_georeference, place_by, read_side_files
from aerotask.raster.georeference.side_georeference import SideGeoreference

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
"""Signatures of supported files, and the only driver that may open each."""

MAX_PIXELS = 100_000_000_000
"""Maximum pixels of one band: more than 300,000 × 300,000."""
MAX_BANDS = 1024
MAX_BLOCK_BYTES = 256 * 1024 * 1024
"""Maximum size of one block with all bands that are stored together: GDAL decodes no less at a time."""
MAX_INFLATION = 20_000
"""Maximum ratio of declared bytes to file bytes, if more than `ALWAYS_ALLOWED_BYTES` are declared."""
ALWAYS_ALLOWED_BYTES = 4 * 1024**3

CACHE_MB = 32
"""Size of GDAL's block cache; the default is 5 % of the machine's memory."""

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
"""Exceptions of rasterio for GDAL's errors: its own, and in some places GDAL's unchanged."""

# `catch_warnings` replaces the process's list of filters, so only one thread may use it at a time.
_FILTERING = threading.Lock()


@contextmanager
def open_raster(
    path: Path, *, overview_level: int | None = None, side: SideGeoreference | None = None
) -> Iterator[Any]:
    """Open the raster at `path` for this thread alone; GDAL's errors within the block become `InvalidInput`.

    Where its own tags don't georeference it, `side` does; by default the side files beside it. An overview has only
    what its own tags say.

    Raises:
        InvalidInput: it is no raster of a supported format (`unreadable-raster`), declares too many pixels or bands
            (`raster-too-large`, `unsupported-layout`), or its pixels can't be read (`damaged-raster`).
    """
    options = {} if overview_level is None else {"overview_level": overview_level}
    with rasterio.Env(**GDAL_OPTIONS):
        source = _open(path, options)
        with source, gdal_errors_as_damage(shown(path.name)):
            _check_header(source, path.stat().st_size)
            if overview_level is None and lacks_georeference(source):
                side = side or read_side_files(path).georeference
                if side:
                    place_by(source, side)
            yield source


@contextmanager
def gdal_errors_as_damage(subject: str = "the raster") -> Iterator[None]:
    """Convert GDAL's errors within the block to `InvalidInput` about the subject.

    Raises:
        InvalidInput: a part of it can't be read (`damaged-raster`), or its coordinate system can't be used
            (`not-georeferenced`).
        MemoryError: GDAL got no memory.
    """
    try:
        yield
    except CPLE_OutOfMemoryError as error:
        raise MemoryError from error
    except GDAL_ERRORS as error:
        if isinstance(error, CRSError | TransformError) or "coordinate operation" in str(error):
            raise InvalidInput(
                f"The coordinate system of {subject} can't be transformed to others; assign the one that it is in "
                "('gdal_translate -a_srs').",
                code="not-georeferenced",
            ) from error
        raise InvalidInput(
            f"A part of {subject} can't be read: the file is damaged or incomplete. Upload it again.",
            code="damaged-raster",
        ) from error


@contextmanager
def without_georeference_warnings() -> Iterator[None]:
    """Suppress rasterio's warning about images without a georeference, which are allowed."""
    with _FILTERING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _open(path: Path, options: dict[str, Any]) -> Any:
    with path.open("rb") as content:
        start = content.read(512)
    driver = next((name for signature, name in SIGNATURES.items() if start.startswith(signature)), None)
    if driver is None:
        raise InvalidInput(
            f"{shown(path.name)} is not a readable raster: {_describe_start(start)}.",
            code="unreadable-raster",
        )
    with without_georeference_warnings():
        try:
            return rasterio.open(path, driver=driver, sharing=False, **options)
        # Besides GDAL's own errors, a damaged header can make rasterio fail while it describes the file.
        except (*GDAL_ERRORS, ValueError, TypeError, OverflowError) as error:
            if compression := missing_compression(str(error)):
                raise InvalidInput(
                    f"{shown(path.name)} can't be read: its pixels are compressed by {compression}, which isn't supported. "
                    "Store it with DEFLATE, LZW or ZSTD ('gdal_translate -co COMPRESS=DEFLATE').",
                    code="unreadable-raster",
                ) from error
            raise InvalidInput(
                f"{shown(path.name)} is not a readable raster: it begins like one ({driver}), but the rest is "
                "damaged, incomplete or of an unsupported kind.",
                code="unreadable-raster",
            ) from error


def _describe_start(start: bytes) -> str:
    """Description of a file that isn't a raster, by its first bytes."""
    if not start:
        return "it is empty"
    if b"<VRTDataset" in start:
        return "it is a VRT, which only points to other files; upload the rasters themselves"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return "it is text"
    return "its format is not supported (supported are TIFF, PNG, JPEG and JPEG 2000)"


def _check_header(source: Any, file_bytes: int) -> None:
    item_bytes = max(_item_bytes(dtype) for dtype in source.dtypes)
    if source.count > MAX_BANDS:
        raise InvalidInput(
            f"The raster has {source.count} bands; at most {MAX_BANDS} are supported.",
            code="unsupported-layout",
        )
    pixels = source.width * source.height
    declared_bytes = pixels * source.count * item_bytes
    inflated = declared_bytes > max(ALWAYS_ALLOWED_BYTES, file_bytes * MAX_INFLATION)
    if pixels > MAX_PIXELS or inflated:
        raise InvalidInput(
            f"The raster declares {source.width} × {source.height} pixels ({declared_bytes / 1e9:,.0f} GB) in a file "
            f"of {file_bytes / 1e6:,.1f} MB. That exceeds the limit; split it into parts.",
            code="raster-too-large",
        )
    if block_bytes(source) > MAX_BLOCK_BYTES:
        raise InvalidInput(
            f"The raster is stored in blocks of {block_bytes(source) / 1e6:,.0f} MB; at most "
            f"{MAX_BLOCK_BYTES / 1e6:,.0f} MB are supported. Store it tiled ('gdal_translate -co TILED=YES').",
            code="unsupported-layout",
        )


def block_bytes(source: Any) -> int:
    """The size of the largest block that GDAL decodes at once."""
    bands_per_block = source.count if source.profile.get("interleave") == "pixel" else 1
    sizes = (
        rows * cols * _item_bytes(dtype) * bands_per_block
        for (rows, cols), dtype in zip(source.block_shapes, source.dtypes, strict=True)
    )
    return int(max(sizes))


def _item_bytes(dtype: str) -> int:
    digits = "".join(character for character in dtype if character.isdigit())
    return max(int(digits or 8) // 8, 1)

"""Raster profile read from an open file's header."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import Affine

from aerotask.raster.georeference.side_files import is_side_georeferenced
from aerotask.raster.io import open_raster
from aerotask.raster.profile import MAX_METADATA_CHARS, BandProfile, GeoreferencedBy, RasterProfile

# Tags that identify a file's origin; others (statistics, dates, exposure) would only bloat the index.
_ORIGIN_TAG = re.compile(
    r"(TIFFTAG_|EXIF_)?(SOFTWARE|IMAGEDESCRIPTION|MAKE|MODEL|DOCUMENTNAME|ARTIST|HOSTCOMPUTER)|"
    r"(.*_)?(SENSOR|CAMERA|SATELLITE|PLATFORM|SPACECRAFT|PRODUCT|INSTRUMENT|MISSION|IMD|TITLE|DESCRIPTION)(_.*)?",
    re.IGNORECASE,
)
_XMP_ORIGIN = re.compile(r"""[<\s][\w-]+:(Make|Model|CameraModel|BandName)(?:>|=["'])([^<"']{1,80})""")
_XMP_MAKER = re.compile(r"https?://(?:www\.)?(micasense|parrot|sentera|flir|dji)\.com", re.IGNORECASE)


def read_profile(source: Any) -> RasterProfile:
    """The profile of a raster opened by `open_raster`."""
    descriptions = source.descriptions
    return RasterProfile(
        width=source.width,
        height=source.height,
        bands=tuple(
            BandProfile(
                dtype=dtype,
                description=descriptions[index] or None,
                colour=_colour(source, index + 1),
                nodata=source.nodatavals[index],
                **_scaling(source.scales[index], source.offsets[index]),
            )
            for index, dtype in enumerate(source.dtypes)
        ),
        crs=crs_text(source.crs),
        geotransform=_geotransform(source.transform),
        block_size=(source.block_shapes[0][1], source.block_shapes[0][0]),
        overview_sizes=_overview_sizes(source),
        metadata_text=_metadata_text(source),
        pages=max(len(source.subdatasets), 1) if source.driver == "GTiff" else 1,
        georeferenced_by=_georeferenced_by(source),
    )


def _scaling(scale: float, offset: float) -> dict[str, float]:
    """Scale and offset of a band, unless they are nonsense: then the numbers are taken as they are."""
    usable = math.isfinite(scale) and math.isfinite(offset) and scale != 0
    return {"scale": float(scale), "offset": float(offset)} if usable else {}


def _overview_sizes(source: Any) -> tuple[tuple[int, int], ...]:
    """Exact sizes of the overviews: GDAL's factors don't tell how halves of odd numbers were rounded."""
    sizes = []
    for level in range(len(source.overviews(1))):
        with open_raster(Path(source.name), overview_level=level) as overview:
            sizes.append((overview.width, overview.height))
    return tuple(sizes)


def colour_table(source: Any, band: int) -> dict[int, tuple[int, int, int, int]] | None:
    """RGBA by entry of a band's colour table; None without one, which a band may lack that is said to be a palette."""
    try:
        return dict(source.colormap(band))
    except ValueError:
        return None


def _colour(source: Any, band: int) -> str:
    interpretation = source.colorinterp[band - 1]
    name = str(getattr(interpretation, "name", interpretation)).lower()
    if name == "palette" and colour_table(source, band) is None:
        return "gray"
    return "gray" if name == "grey" else name


def crs_text(crs: CRS | None) -> str | None:
    """The CRS as `EPSG:…` or WKT; None if there is none, or it can't be written."""
    if not crs:
        return None
    try:
        code = crs.to_epsg()
        return f"EPSG:{code}" if code else str(crs.to_wkt())
    except CRSError:
        return None


def _geotransform(transform: Affine) -> tuple[float, float, float, float, float, float] | None:
    if transform.is_identity or not math.isfinite(transform.determinant):
        return None
    origin_x, pixel_width, row_rotation, origin_y, column_rotation, pixel_height = transform.to_gdal()
    return origin_x, pixel_width, row_rotation, origin_y, column_rotation, pixel_height


def _georeferenced_by(source: Any) -> GeoreferencedBy | None:
    if is_side_georeferenced(source):
        return "side-files"
    if not source.transform.is_identity:
        return None
    if source.gcps[0]:
        return "control-points"
    return "rpc" if source.rpcs is not None else None


def _metadata_text(source: Any) -> str:
    """Camera, software and description from TIFF tags, EXIF and XMP in one line, for recognising sensors."""
    parts = [
        f"{key}={value}"
        for namespace in (None, "EXIF", "IMAGERY")
        for key, value in sorted(source.tags(ns=namespace).items())
        if _ORIGIN_TAG.fullmatch(key)
    ]
    for xmp in source.tags(ns="xml:XMP").values():
        parts.extend(f"{name}={value}" for name, value in _XMP_ORIGIN.findall(xmp))
        parts.extend(dict.fromkeys(_XMP_MAKER.findall(xmp)))
    joined = re.sub(r"\s+", " ", " ".join(parts)).strip()
    return "".join(character for character in joined if character.isprintable())[:MAX_METADATA_CHARS]

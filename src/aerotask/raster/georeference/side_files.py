"""World file and `.prj` beside a raster, which georeference it if its own tags don't.

They are read here rather than by GDAL, which opens any file beside a raster, whatever that refers to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.io import DatasetReader
from rasterio.transform import Affine

from aerotask.domain.paths import base_name, shown
from aerotask.raster.georeference.side_georeference import (
    SIDE_SUFFIXES,
    GeoTransform,
    SideGeoreference,
)

MAX_WORLD_FILE_BYTES = 4096
MAX_PRJ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SideFiles:
    """Georeference by the side files that exist, and what is wrong with them."""

    georeference: SideGeoreference
    faults: tuple[str, ...] = ()


def read_side_files(path: Path, files: Mapping[str, Path] | None = None) -> SideFiles:
    """Read the world file and the `.prj` beside the raster at `path`, whose suffixes are in lower or upper case.

    With `files`, it looks for them there, by their paths, and not beside the raster.
    """
    geotransform, crs, faults = None, None, []
    stem, _, own = str(path).rpartition(".")
    for suffix in SIDE_SUFFIXES.get(own.lower(), ()):
        for side in (f"{stem}.{suffix}", f"{stem}.{suffix.upper()}"):
            content = side if files is None else str(files.get(side, ""))
            if not Path(content).is_file():
                continue
            try:
                if suffix == "prj":
                    crs = crs or parse_prj(_text_of(content, MAX_PRJ_BYTES))
                else:
                    geotransform = geotransform or parse_world_file(_text_of(content, MAX_WORLD_FILE_BYTES))
            except ValueError as error:
                faults.append(f"{shown(base_name(side))} is ignored: {error}.")
    return SideFiles(SideGeoreference(crs, geotransform), tuple(faults))


def parse_world_file(text: str) -> GeoTransform:
    """The geotransform of a world file: six numbers, the last two of which are the centre of the first pixel.

    Source: ESRI, "World files for raster datasets".

    Raises:
        ValueError: these are not six usable numbers.
    """
    try:
        numbers = [float(word.replace(",", ".")) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise ValueError("it must consist of six numbers")
    pixel_width, column_rotation, row_rotation, pixel_height, centre_x, centre_y = numbers
    if not pixel_width * pixel_height - row_rotation * column_rotation:
        raise ValueError("its pixels have no area")
    return (
        centre_x - (pixel_width + row_rotation) / 2,
        pixel_width,
        row_rotation,
        centre_y - (column_rotation + pixel_height) / 2,
        column_rotation,
        pixel_height,
    )


def parse_prj(text: str) -> str:
    """The CRS of a `.prj`, as `EPSG:…` or WKT; its WKT may be ESRI's.

    Raises:
        ValueError: it is no WKT that PROJ understands.
    """
    try:
        crs = CRS.from_wkt(text.strip())
        if not crs:
            raise ValueError("it must hold a coordinate system as WKT")
        code = crs.to_epsg()
        return f"EPSG:{code}" if code else str(crs.to_wkt())
    except CRSError as error:
        raise ValueError("it must hold a coordinate system as WKT") from error


def place_by(source: Any, side: SideGeoreference) -> None:
    """Georeference the open raster `source` by its side files, as far as its own tags don't."""
    # A reader's CRS and transform come from GDAL and can't be set; GDAL itself reads no `.prj` of rasters.
    source.__class__ = _SideReader
    source.side = side


def lacks_georeference(source: Any) -> bool:
    """Whether the open raster's own tags don't georeference it."""
    is_affine = source.crs and not source.transform.is_identity
    return not is_affine and not source.gcps[0] and source.rpcs is None


def is_side_georeferenced(source: Any) -> bool:
    """Whether side files georeference the open raster."""
    return isinstance(source, _SideReader)


def crs_of(text: str) -> CRS:
    """The CRS of `EPSG:…` or WKT.

    Raises:
        CRSError: there is no such CRS.
    """
    code = text.removeprefix("EPSG:")
    return CRS.from_epsg(int(code)) if code.isdecimal() else CRS.from_wkt(text)


class _SideReader(DatasetReader):  # type: ignore[misc]  # rasterio has no types
    """Reader of a raster that side files georeference."""

    side: SideGeoreference

    @property
    def crs(self) -> Any:
        """The raster's own CRS, else that of its `.prj`."""
        own = super().crs
        return crs_of(self.side.crs) if not own and self.side.crs else own

    @property
    def transform(self) -> Any:
        """The raster's own transform, else that of its world file."""
        own = super().transform
        return (
            Affine.from_gdal(*self.side.geotransform) if own.is_identity and self.side.geotransform else own
        )


def _text_of(path: str, max_bytes: int) -> str:
    """The content of a text file.

    Raises:
        ValueError: it is too large or no text.
    """
    with Path(path).open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")

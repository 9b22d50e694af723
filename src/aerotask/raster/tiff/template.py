"""Lets GDAL itself say how an image is described: the fields of a file of one pixel that it wrote.

Colour, sample format, compression, CRS, geotransform, nodata, colour table and metadata are then exactly what GDAL
reads back, in any form that it knows (rotated grids, ground control points, custom CRS); only what depends on the
image's size is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from aerotask.raster.io import without_georeference_warnings
from aerotask.raster.tiff.directory import Field, TagCode, parse_first_directory

_OF_THE_PIXEL = {
    TagCode.WIDTH,
    TagCode.LENGTH,
    TagCode.STRIP_OFFSETS,
    TagCode.ROWS_PER_STRIP,
    TagCode.STRIP_BYTE_COUNTS,
    TagCode.TILE_WIDTH,
    TagCode.TILE_LENGTH,
    TagCode.TILE_OFFSETS,
    TagCode.TILE_BYTE_COUNTS,
}


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where a raster lies, as rasterio has it: a geotransform, or ground control points, or neither."""

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, ...] = ()
    gcps_crs: Any = None
    rpcs: Any = None
    area_or_point: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateFields:
    """What a file says of its image, apart from its size."""

    dtype: str
    band_names: tuple[str, ...]
    colours: tuple[ColorInterp, ...] | None = None
    nodata: float | None = None
    colour_table: bytes | None = None
    """256 × (red, green, blue)."""
    tags: Mapping[str, str] = field(default_factory=dict)
    predictor: int | None = None
    """That of the tiles' layout; left out, 3 for float32 and none for anything else."""


def georeference_of(source: Any) -> Georeference:
    """Where an open raster lies."""
    gcps, gcps_crs = source.gcps
    return Georeference(
        crs=source.crs,
        transform=None if source.transform.is_identity else source.transform,
        gcps=tuple(gcps),
        gcps_crs=gcps_crs,
        rpcs=source.rpcs,
        area_or_point=source.tags().get("AREA_OR_POINT"),
    )


def template_fields(image: TemplateFields, place: Georeference) -> tuple[Field, ...]:
    """The fields that describe such an image at such a place."""
    options: dict[str, Any] = {
        "driver": "GTiff",
        "width": 1,
        "height": 1,
        "count": len(image.band_names),
        "dtype": image.dtype,
        "nodata": image.nodata,
        "compress": "deflate",
        "predictor": image.predictor or (3 if image.dtype == "float32" else 1),
        "interleave": "pixel",
        "endianness": "LITTLE",
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
        **_photometric(image),
    }
    if not place.gcps:
        options |= {"crs": place.crs, "transform": place.transform}
    with MemoryFile() as memory:
        with without_georeference_warnings(), rasterio.open(memory.name, "w", **options) as model:
            _describe(model, image, place)
        content = bytes(memory.getbuffer())
    return tuple(item for item in parse_first_directory(content).values() if item.code not in _OF_THE_PIXEL)


def _photometric(image: TemplateFields) -> dict[str, str]:
    if image.colour_table:
        return {"photometric": "PALETTE"}
    if image.colours and ColorInterp.alpha in image.colours:
        return {"photometric": "RGB", "alpha": "UNSPECIFIED"}
    return {"photometric": "MINISBLACK"}


def _describe(model: Any, image: TemplateFields, place: Georeference) -> None:
    tags = dict(image.tags)
    if place.area_or_point:
        tags["AREA_OR_POINT"] = place.area_or_point
    model.update_tags(**tags)
    if place.gcps:
        model.gcps = (list(place.gcps), place.gcps_crs or CRS())
    if place.rpcs:
        model.rpcs = place.rpcs
    if image.colours:
        model.colorinterp = image.colours
    if image.colour_table:
        table = image.colour_table
        model.write_colormap(1, {entry: (*table[3 * entry : 3 * entry + 3], 255) for entry in range(256)})
    for number, name in enumerate(image.band_names, start=1):
        model.set_band_description(number, name)

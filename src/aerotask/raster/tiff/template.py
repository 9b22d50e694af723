"""Template fields: the TIFF fields of a one-pixel file that GDAL wrote.

Colour, sample format, compression, CRS, geotransform, nodata, colour table and metadata are then exactly what GDAL
reads back, in any form that it knows (rotated grids, ground control points, custom CRS); only the fields that depend
on the image's size are written here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from aerotask.raster.header import colour_table
from aerotask.raster.io import without_georeference_warnings
from aerotask.raster.tiff.directory import Field, FieldType, TagCode, parse_first_directory

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_DERIVED_NAMESPACES = {
    "IMAGE_STRUCTURE",
    "DERIVED_SUBDATASETS",
    "SUBDATASETS",
    "RPC",
    "EXIF",
    "COLOR_PROFILE",
}
"""Namespaces that follow from the file's structure, or that other fields are written for."""
_XMP = "xml:XMP"
_SIZE_DEPENDENT = {
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
    """Georeference of a raster in rasterio's terms: a geotransform, ground control points, or neither."""

    crs: Any = None
    transform: Any = None
    gcps: tuple[Any, ...] = ()
    gcps_crs: Any = None
    rpcs: Any = None
    area_or_point: str | None = None


@dataclass(frozen=True, slots=True)
class TemplateFields:
    """Description of an image apart from its size."""

    dtype: str
    band_names: tuple[str | None, ...]
    colours: tuple[ColorInterp, ...] | None = None
    nodata: float | None = None
    colour_table: bytes | None = None
    """(red, green, blue) of each entry, from 0 on."""
    tags: Mapping[str, str] = field(default_factory=dict)
    predictor: int | None = None
    """The predictor of the tiles' layout; by default 3 for float32 and none for other types."""
    scalings: tuple[tuple[float, float], ...] = ()
    """Scale and offset of each band, if there are any."""
    units: tuple[str | None, ...] = ()
    band_tags: tuple[Mapping[str, str], ...] = ()
    tags_by_namespace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def georeference_of(source: Any) -> Georeference:
    """The georeference of an open raster."""
    gcps, gcps_crs = source.gcps
    return Georeference(
        crs=source.crs,
        transform=None if source.transform.is_identity else source.transform,
        gcps=tuple(gcps),
        gcps_crs=gcps_crs,
        rpcs=source.rpcs,
        area_or_point=source.tags().get("AREA_OR_POINT"),
    )


def describe_source(source: Any) -> TemplateFields:
    """Description of an open raster apart from its georeference: names, colours, scales, units and tags."""
    namespaces = [
        name for name in source.tag_namespaces() if name not in _DERIVED_NAMESPACES and ":" not in name
    ]
    return TemplateFields(
        dtype=source.dtypes[0],
        band_names=source.descriptions,
        colours=source.colorinterp,
        nodata=source.nodata,
        colour_table=_colour_table(source),
        tags=source.tags(),
        scalings=tuple(zip(source.scales, source.offsets, strict=True)),
        units=source.units,
        band_tags=tuple(source.tags(band) for band in source.indexes),
        tags_by_namespace={name: source.tags(ns=name) for name in namespaces},
    )


def embedded_fields(source: Any) -> tuple[Field, ...]:
    """The ICC profile and the XMP packet of an open raster, byte for byte."""
    profile = source.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE")
    packet = source.tags(ns=_XMP).get(_XMP)
    fields = []
    if profile:
        fields.append(Field(TagCode.ICC_PROFILE, FieldType.UNDEFINED, base64.b64decode(profile)))
    if packet:
        fields.append(Field(TagCode.XMP, FieldType.BYTE, packet.encode()))
    return tuple(fields)


def _colour_table(source: Any) -> bytes | None:
    if source.count > 1 or source.colorinterp[0] != ColorInterp.palette:
        return None
    colours = colour_table(source, 1)
    if not colours:
        return None
    return b"".join(bytes(colours.get(entry, (0, 0, 0))[:3]) for entry in range(max(colours) + 1))


def template_fields(image: TemplateFields, georeference: Georeference) -> tuple[Field, ...]:
    """The fields for an image with a georeference, written by GDAL."""
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
    if not georeference.gcps:
        options |= {"crs": georeference.crs, "transform": georeference.transform}
    with MemoryFile() as memory:
        with without_georeference_warnings(), rasterio.open(memory.name, "w", **options) as template:
            _describe(template, image, georeference)
        content = bytes(memory.getbuffer())
    return tuple(item for item in parse_first_directory(content).values() if item.code not in _SIZE_DEPENDENT)


def _photometric(image: TemplateFields) -> dict[str, str]:
    if image.colour_table:
        return {"photometric": "PALETTE"}
    colours = image.colours or ()
    photometric = {"photometric": "RGB" if colours[:3] == _RGB else "MINISBLACK"}
    if ColorInterp.alpha in colours:
        photometric["alpha"] = "UNSPECIFIED"
    return photometric


def _describe(template: Any, image: TemplateFields, georeference: Georeference) -> None:
    tags = dict(image.tags)
    if georeference.area_or_point:
        tags["AREA_OR_POINT"] = georeference.area_or_point
    template.update_tags(**tags)
    if georeference.gcps:
        template.gcps = (list(georeference.gcps), georeference.gcps_crs or CRS())
    if georeference.rpcs:
        template.rpcs = georeference.rpcs
    if image.colours:
        template.colorinterp = image.colours
    if image.colour_table:
        table = image.colour_table
        entries = range(len(table) // 3)
        template.write_colormap(1, {entry: (*table[3 * entry : 3 * entry + 3], 255) for entry in entries})
    for number, name in enumerate(image.band_names, start=1):
        if name:
            template.set_band_description(number, name)
    _describe_values(template, image)


def _describe_values(template: Any, image: TemplateFields) -> None:
    """Scales, offsets, units and tags of the bands; defaults aren't written."""
    if any(scaling != (1, 0) for scaling in image.scalings):
        template.scales = [scale for scale, _ in image.scalings]
        template.offsets = [offset for _, offset in image.scalings]
    if any(image.units):
        template.units = [unit or "" for unit in image.units]
    for number, tags in enumerate(image.band_tags, start=1):
        if tags:
            template.update_tags(number, **tags)
    for namespace, tags in image.tags_by_namespace.items():
        template.update_tags(ns=namespace, **tags)

"""What kind of thing a file is, as far as its name and its first bytes tell; the index looks deeper later."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from enum import StrEnum


class EntryType(StrEnum):
    """The types of entries that clients know."""

    DIRECTORY = "directory"
    GENERIC = "generic"
    GEO_IMAGE = "geoImage"
    GEO_RASTER = "geoRaster"
    POINT_CLOUD = "pointCloud"
    IMAGE = "image"
    MARKDOWN = "markdown"
    VIDEO = "video"
    GEO_VIDEO = "geoVideo"
    MODEL = "model"
    PANORAMA = "panorama"
    GEO_PANORAMA = "geoPanorama"
    VECTOR = "vector"


PICTURES = frozenset(
    {EntryType.IMAGE, EntryType.GEO_IMAGE, EntryType.GEO_RASTER, EntryType.PANORAMA, EntryType.GEO_PANORAMA}
)
"""What has pixels that can be looked at."""

_BY_SUFFIX: Mapping[str, EntryType] = {
    suffix: kind
    for kind, suffixes in {
        EntryType.IMAGE: "jpg jpeg png webp gif bmp tif tiff jp2 heic dng",
        EntryType.POINT_CLOUD: "las laz e57",
        EntryType.MARKDOWN: "md markdown",
        EntryType.VIDEO: "mp4 mov m4v avi mkv webm",
        EntryType.MODEL: "obj ply glb gltf nxs nxz stl",
        EntryType.VECTOR: "geojson gpkg shp kml kmz fgb dxf gml",
    }.items()
    for suffix in suffixes.split()
}
# How kinds of files begin that are told by their content where the name says nothing.
_BY_START: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"II+\0": "tif",
    b"MM\0+": "tif",
    b"LASF": "las",
    b"ASTM-E57": "e57",
    b"glTF": "glb",
    b"ply\n": "ply",
    b"ply\r": "ply",
    b"fgb\x03fgb": "fgb",
}
START_BYTES = 16
"""So much of a content tells its kind."""
_MEDIA_TYPES: Mapping[str, str] = {
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
    "laz": "application/octet-stream",
    "las": "application/octet-stream",
    "geojson": "application/geo+json",
    "gpkg": "application/geopackage+sqlite3",
    "md": "text/markdown",
    "ply": "application/octet-stream",
    "obj": "model/obj",
    "glb": "model/gltf-binary",
}
RASTER_SUFFIXES = frozenset({"tif", "tiff", "jp2", "png", "jpg", "jpeg"})
"""What the raster tools can open."""
SHAPEFILE_SIDES = frozenset({"shx", "dbf", "prj", "cpg", "sbn", "sbx", "qix"})
"""The files beside a `.shp` without which it can't be read, or not rightly."""


def suffix_of(path: str) -> str:
    """The lower-case suffix of a path's last segment, without its dot; empty if there is none."""
    return path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""


def type_by_name(path: str) -> EntryType:
    """The entry type that a file's name suggests."""
    return _BY_SUFFIX.get(suffix_of(path), EntryType.GENERIC)


def kind_of(path: str, start: bytes) -> str:
    """The suffix that stands for a file's kind: its own if that is known, else the one that its content suggests.

    Empty if neither tells. `start` holds the first bytes of the content.
    """
    suffix = suffix_of(path)
    if suffix in _BY_SUFFIX:
        return suffix
    return next((kind for magic, kind in _BY_START.items() if start.startswith(magic)), "")


def type_of_kind(kind: str) -> EntryType:
    """The entry type that a kind suggests."""
    return _BY_SUFFIX.get(kind, EntryType.GENERIC)


def shapefiles_beside(path: str) -> tuple[str, ...]:
    """The paths at which the shapefile may be that a side file belongs to; none if it is no side file."""
    suffix = suffix_of(path)
    if suffix not in SHAPEFILE_SIDES:
        return ()
    stem = path[: -len(suffix)]
    return f"{stem}shp", f"{stem}SHP"


def sides_of_shapefile(path: str) -> tuple[str, ...]:
    """The paths at which the side files of a shapefile may be; none if it is no shapefile."""
    if suffix_of(path) != "shp":
        return ()
    stem = path[:-3]
    return tuple(f"{stem}{form}" for side in sorted(SHAPEFILE_SIDES) for form in (side, side.upper()))


def media_type_by_name(path: str) -> str:
    """The media type (RFC 6838) for a download of that name."""
    known = _MEDIA_TYPES.get(suffix_of(path))
    return known or mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"

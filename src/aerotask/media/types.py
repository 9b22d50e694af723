"""What kind of thing a file is, as far as its name tells; the index looks into its content later."""

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


_BY_SUFFIX: Mapping[str, EntryType] = {
    suffix: kind
    for kind, suffixes in {
        EntryType.IMAGE: "jpg jpeg png webp gif bmp tif tiff heic dng",
        EntryType.POINT_CLOUD: "las laz e57",
        EntryType.MARKDOWN: "md markdown",
        EntryType.VIDEO: "mp4 mov m4v avi mkv webm",
        EntryType.MODEL: "obj ply glb gltf nxs nxz stl",
        EntryType.VECTOR: "geojson gpkg shp kml kmz fgb dxf gml",
    }.items()
    for suffix in suffixes.split()
}
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
RASTER_SUFFIXES = frozenset({"tif", "tiff", "jp2", "png", "jpg", "jpeg", "webp"})


def suffix_of(path: str) -> str:
    """The lower-case suffix of a path's last segment, without its dot; empty if there is none."""
    return path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""


def type_by_name(path: str) -> EntryType:
    """The entry type that a file's name suggests."""
    return _BY_SUFFIX.get(suffix_of(path), EntryType.GENERIC)


def media_type_by_name(path: str) -> str:
    """The media type (RFC 6838) for a download of that name."""
    known = _MEDIA_TYPES.get(suffix_of(path))
    return known or mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"

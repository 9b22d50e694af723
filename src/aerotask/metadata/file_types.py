"""File types by name and first bytes; metadata extraction looks deeper later."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from enum import StrEnum

from aerotask.raster.georeference.side_georeference import SIDE_SUFFIXES


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


IMAGE_TYPES = frozenset(
    {EntryType.IMAGE, EntryType.GEO_IMAGE, EntryType.GEO_RASTER, EntryType.PANORAMA, EntryType.GEO_PANORAMA}
)
"""Entry types with pixels, for which there are thumbnails."""

_BY_SUFFIX: Mapping[str, EntryType] = {
    suffix: kind
    for kind, suffixes in {
        EntryType.IMAGE: "jpg jpeg png webp gif bmp tif tiff jp2 heic dng",
        EntryType.POINT_CLOUD: "las laz e57",
        EntryType.MARKDOWN: "md markdown",
        EntryType.VIDEO: "mp4 mov m4v avi mkv webm",
        EntryType.MODEL: "obj ply glb gltf nxs nxz stl",
        EntryType.VECTOR: "geojson geojsonl geojsons geojsonseq gpkg shp shz kml kmz fgb dxf gml gpx",
    }.items()
    for suffix in suffixes.split()
}
GEOJSON_SUFFIXES = frozenset({"geojson", "geojsonl", "geojsons", "geojsonseq", "ndjson"})
MAYBE_VECTOR_SUFFIXES = frozenset({"csv", "ndjson", "zip"})
"""Suffixes of files of which only the content tells whether they are vector files."""
# Magic numbers of the kinds that are recognised by content when the suffix is unknown.
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
"""Bytes of a content that are needed to recognise its kind."""
_MEDIA_TYPES: Mapping[str, str] = {
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
    "laz": "application/octet-stream",
    "las": "application/octet-stream",
    "geojson": "application/geo+json",
    "geojsonl": "application/geo+json-seq",
    "geojsons": "application/geo+json-seq",
    "geojsonseq": "application/geo+json-seq",
    "gpx": "application/gpx+xml",
    "gpkg": "application/geopackage+sqlite3",
    "md": "text/markdown",
    "ply": "application/octet-stream",
    "obj": "model/obj",
    "glb": "model/gltf-binary",
}
RASTER_SUFFIXES = frozenset({"tif", "tiff", "jp2", "png", "jpg", "jpeg"})
"""Suffixes of the files that the raster tools can open."""
SHAPEFILE_SIDE_SUFFIXES = frozenset({"shx", "dbf", "prj", "cpg", "sbn", "sbx", "qix"})
"""Suffixes of the side files of a `.shp`, without which it can't be read, or not correctly."""
_SIDES: Mapping[str, tuple[str, ...]] = {"shp": tuple(sorted(SHAPEFILE_SIDE_SUFFIXES)), **SIDE_SUFFIXES}
_OWNERS: Mapping[str, tuple[str, ...]] = {
    side: tuple(owner for owner, sides in _SIDES.items() if side in sides)
    for side in {side for sides in _SIDES.values() for side in sides}
}


def suffix_of(path: str) -> str:
    """The lower-case suffix of a path's last segment, without its dot; empty if there is none."""
    return path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""


def type_by_name(path: str) -> EntryType:
    """The entry type that a file's name suggests."""
    return _BY_SUFFIX.get(suffix_of(path), EntryType.GENERIC)


def kind_of(path: str, start: bytes) -> str:
    """The kind of a file as a suffix: its own if that is known, else the one that its content suggests.

    Empty if neither is known. `start` holds the first bytes of the content.
    """
    suffix = suffix_of(path)
    if suffix in _BY_SUFFIX or suffix in MAYBE_VECTOR_SUFFIXES:
        return suffix
    return next((kind for magic, kind in _BY_START.items() if start.startswith(magic)), "")


def type_of_kind(kind: str) -> EntryType:
    """The entry type that a kind suggests."""
    return _BY_SUFFIX.get(kind, EntryType.GENERIC)


def owner_paths_of(path: str) -> tuple[str, ...]:
    """Possible paths of the shapefile or raster that a side file belongs to; none if it is not a side file."""
    suffix = suffix_of(path)
    stem = path[: -len(suffix)] if suffix else path
    return tuple(f"{stem}{form}" for owner in _OWNERS.get(suffix, ()) for form in (owner, owner.upper()))


def side_file_paths_of(path: str) -> tuple[str, ...]:
    """Possible paths of the side files of a shapefile or raster; none if it is neither."""
    suffix = suffix_of(path)
    stem = path[: -len(suffix)] if suffix else path
    return tuple(f"{stem}{form}" for side in _SIDES.get(suffix, ()) for form in (side, side.upper()))


def media_type_by_name(path: str) -> str:
    """The media type (RFC 6838) for a download of that name."""
    known = _MEDIA_TYPES.get(suffix_of(path))
    return known or mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"

"""Metadata extraction of a file: its entry type, properties and footprint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from aerotask.domain.errors import InvalidInput, cause_of
from aerotask.domain.paths import shown
from aerotask.metadata import mesh, pointcloud, raster, vector, video
from aerotask.metadata.file_types import (
    MAYBE_VECTOR_SUFFIXES,
    RASTER_SUFFIXES,
    START_BYTES,
    EntryType,
    kind_of,
    type_of_kind,
)
from aerotask.metadata.geojson import Footprint
from aerotask.metadata.model import FileMetadata, unreadable
from aerotask.metadata.photos import image_size, photo

MAX_PROPERTIES_BYTES = 512 * 1024
"""Well below the largest extractor reply that a worker accepts."""
# Errors after which a file keeps the type of its name: another file or a conversion mends them.
_REMEDIABLE = frozenset({"missing-side-file", "vector-too-large", "vector-too-slow"})

_log = logging.getLogger(__name__)


def extract_metadata(path: Path) -> FileMetadata:
    """Extracts the metadata of the file at `path`, which has its entry's name.

    A file whose content doesn't match its name becomes `generic`, with the reason in `properties.indexError`.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    kind = kind_of(path.name, start)
    suggested = type_of_kind(kind)
    reader = _READERS.get(suggested)
    if kind in MAYBE_VECTOR_SUFFIXES and vector.may_be_vector(path, kind):
        reader = _vector
    if reader is None:
        return FileMetadata(suggested)
    try:
        metadata = reader(path, kind, start)
    except InvalidInput as error:
        if cause := cause_of(error):
            _log.warning("%s: %s: %s", shown(path.name), error.code, cause)
        entry_type = suggested if error.code in _REMEDIABLE else EntryType.GENERIC
        return unreadable(error.code, error.message, entry_type)
    return bounded(path, metadata)


def bounded(path: Path, metadata: FileMetadata) -> FileMetadata:
    """The metadata, or an error if they are too large: a worker would reject the whole reply."""
    if len(orjson.dumps(metadata.properties, default=str)) <= MAX_PROPERTIES_BYTES:
        return metadata
    return unreadable(
        "description-too-large",
        f"The metadata of {shown(path.name)} exceed the limit of {MAX_PROPERTIES_BYTES:,} bytes per file.",
        metadata.type,
    )


def _image(path: Path, kind: str, start: bytes) -> FileMetadata:
    properties: dict[str, Any] = {}
    size: tuple[int, int] | None = None
    if kind in RASTER_SUFFIXES:
        found = raster.extract_raster(path)
        properties = {**found.profile.to_properties(), **found.extras}
        if found.is_georeferenced:
            return FileMetadata(EntryType.GEO_RASTER, properties, found.centre, found.footprint)
        size = found.profile.width, found.profile.height
    elif not _is_image(kind, start):
        why = f"its content is not {kind.upper()}" if start else "it is empty"
        raise InvalidInput(f"{shown(path.name)} is not a readable image: {why}.", code="unreadable-picture")
    else:
        size = image_size.size_of(path)
    metadata = photo.extract_photo(path, size)
    if metadata.is_panorama:
        entry_type = EntryType.GEO_PANORAMA if metadata.point else EntryType.PANORAMA
    else:
        entry_type = EntryType.GEO_IMAGE if metadata.point else EntryType.IMAGE
    return FileMetadata(entry_type, {**properties, **metadata.properties}, metadata.point, metadata.footprint)


def _is_image(kind: str, start: bytes) -> bool:
    match kind:
        case "webp":
            return start.startswith(b"RIFF") and start[8:12] == b"WEBP"
        case "gif":
            return start.startswith((b"GIF87a", b"GIF89a"))
        case "bmp":
            return start.startswith(b"BM")
        case "heic":
            return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS
        case _:  # a DNG is a TIFF whose first image is only a preview
            return start.startswith((b"II*\0", b"MM\0*"))


# ISO/IEC 23008-12, 10.2 and B.4: the major brands of still images and image sequences, for any codec and for HEVC.
_HEIF_BRANDS = frozenset(
    {b"mif1", b"mif2", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
)


def _cloud(path: Path, _kind: str, _start: bytes) -> FileMetadata:
    found = pointcloud.extract_point_cloud(path)
    return _located(EntryType.POINT_CLOUD, found.properties, found.footprint)


def _model(path: Path, kind: str, _start: bytes) -> FileMetadata:
    properties = mesh.extract_mesh(path, kind)
    # Scanners write point clouds as PLY too: vertices without faces.
    is_cloud = kind == "ply" and not properties["faceCount"]
    return FileMetadata(EntryType.POINT_CLOUD if is_cloud else EntryType.MODEL, properties)


def _vector(path: Path, kind: str, _start: bytes) -> FileMetadata:
    found = vector.extract_vector(path, kind)
    return _located(EntryType.VECTOR, found.properties, found.footprint)


def _located(kind: EntryType, properties: Mapping[str, Any], footprint: Footprint | None) -> FileMetadata:
    if footprint is None:
        return FileMetadata(kind, properties)
    return FileMetadata(kind, properties, footprint.centre, footprint.outline)


def _video(path: Path, kind: str, start: bytes) -> FileMetadata:
    if kind in {"mp4", "mov", "m4v"}:
        found = video.extract_video(path)
        return FileMetadata(
            EntryType.GEO_VIDEO if found.point else EntryType.VIDEO, found.properties, found.point
        )
    if not start.startswith(b"RIFF" if kind == "avi" else b"\x1a\x45\xdf\xa3"):
        raise InvalidInput(
            f"{shown(path.name)} is not a readable video: its content is not {kind.upper()}.",
            code="unreadable-video",
        )
    return FileMetadata(EntryType.VIDEO)


_READERS: Mapping[EntryType, Callable[[Path, str, bytes], FileMetadata]] = {
    EntryType.IMAGE: _image,
    EntryType.POINT_CLOUD: _cloud,
    EntryType.MODEL: _model,
    EntryType.VECTOR: _vector,
    EntryType.VIDEO: _video,
}

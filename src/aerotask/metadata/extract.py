"""What the index says of a file: its type, its properties, and where on the ground it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata import mesh, pointcloud, raster, vector, video
from aerotask.metadata.file_types import RASTER_SUFFIXES, START_BYTES, EntryType, kind_of, type_of_kind
from aerotask.metadata.geojson import Footprint
from aerotask.metadata.model import FileMetadata, unreadable
from aerotask.metadata.photos import image_size, photo

MAX_PROPERTIES_BYTES = 512 * 1024
"""Well below what a worker takes as one description."""
# What makes a file unreadable for now, although it is what its name says.
_REMEDIABLE = frozenset({"missing-side-file", "vector-too-large"})


def describe(path: Path) -> FileMetadata:
    """Look into the file at `path`, which carries its entry's own name.

    A file that isn't what its name says is `generic`, and `properties.indexError` says why.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    kind = kind_of(path.name, start)
    suggested = type_of_kind(kind)
    reader = _READERS.get(suggested)
    if reader is None:
        return FileMetadata(suggested)
    try:
        found = reader(path, kind, start)
    except InvalidInput as error:
        kept = suggested if error.code in _REMEDIABLE else EntryType.GENERIC
        return unreadable(error.code, error.message, kept)
    return bounded(path, found)


def bounded(path: Path, found: FileMetadata) -> FileMetadata:
    """The description, or that it is too long for the index, which a worker would refuse as a whole."""
    if len(orjson.dumps(found.properties, default=str)) <= MAX_PROPERTIES_BYTES:
        return found
    return unreadable(
        "description-too-large",
        f"{shown(path.name)} has more to tell than the index keeps of a file ({MAX_PROPERTIES_BYTES:,} bytes).",
        found.type,
    )


def _image(path: Path, kind: str, start: bytes) -> FileMetadata:
    properties: dict[str, Any] = {}
    size: tuple[int, int] | None = None
    if kind in RASTER_SUFFIXES:
        found = raster.describe(path)
        properties = {**found.profile.to_properties(), **found.extras}
        if found.is_georeferenced:
            return FileMetadata(EntryType.GEO_RASTER, properties, found.centre, found.footprint)
        size = found.profile.width, found.profile.height
    elif not _is_picture(kind, start):
        why = f"its content is not {kind.upper()}" if start else "it is empty"
        raise InvalidInput(f"{shown(path.name)} is not a readable picture: {why}.", code="unreadable-picture")
    else:
        size = image_size.size_of(path)
    taken = photo.describe(path, size)
    if taken.is_panorama:
        shows = EntryType.GEO_PANORAMA if taken.point else EntryType.PANORAMA
    else:
        shows = EntryType.GEO_IMAGE if taken.point else EntryType.IMAGE
    return FileMetadata(shows, {**properties, **taken.properties}, taken.point, taken.footprint)


def _is_picture(kind: str, start: bytes) -> bool:
    match kind:
        case "webp":
            return start.startswith(b"RIFF") and start[8:12] == b"WEBP"
        case "gif":
            return start.startswith((b"GIF87a", b"GIF89a"))
        case "bmp":
            return start.startswith(b"BM")
        case "heic":
            return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS
        case _:  # a DNG is a TIFF, whose first picture is but a preview
            return start.startswith((b"II*\0", b"MM\0*"))


# ISO/IEC 23008-12, 10.2 and B.4: the major brands of still pictures and their sequences, by any codec and by HEVC.
_HEIF_BRANDS = frozenset(
    {b"mif1", b"mif2", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
)


def _cloud(path: Path, _kind: str, _start: bytes) -> FileMetadata:
    found = pointcloud.describe(path)
    return _placed(EntryType.POINT_CLOUD, found.properties, found.place)


def _model(path: Path, kind: str, _start: bytes) -> FileMetadata:
    properties = mesh.describe(path, kind)
    # Scanners write clouds as PLY too: vertices, and nothing that joins them.
    is_cloud = kind == "ply" and not properties["faceCount"]
    return FileMetadata(EntryType.POINT_CLOUD if is_cloud else EntryType.MODEL, properties)


def _vector(path: Path, kind: str, _start: bytes) -> FileMetadata:
    found = vector.describe(path, kind)
    return _placed(EntryType.VECTOR, found.properties, found.place)


def _placed(kind: EntryType, properties: Mapping[str, Any], place: Footprint | None) -> FileMetadata:
    if place is None:
        return FileMetadata(kind, properties)
    return FileMetadata(kind, properties, place.centre, place.outline)


def _video(path: Path, kind: str, start: bytes) -> FileMetadata:
    if kind in {"mp4", "mov", "m4v"}:
        found = video.describe(path)
        return FileMetadata(
            EntryType.GEO_VIDEO if found.point else EntryType.VIDEO, found.properties, found.point
        )
    if not start.startswith(b"RIFF" if kind == "avi" else b"\x1a\x45\xdf\xa3"):
        raise InvalidInput(
            f"{shown(path.name)} is not a readable video: it is not {kind.upper()}.", code="unreadable-video"
        )
    return FileMetadata(EntryType.VIDEO)


_READERS: Mapping[EntryType, Callable[[Path, str, bytes], FileMetadata]] = {
    EntryType.IMAGE: _image,
    EntryType.POINT_CLOUD: _cloud,
    EntryType.MODEL: _model,
    EntryType.VECTOR: _vector,
    EntryType.VIDEO: _video,
}

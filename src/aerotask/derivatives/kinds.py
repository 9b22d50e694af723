"""Derivative kinds: the entries each can be built from, and the files that clients get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aerotask.derivatives.nxz import nxz_missing
from aerotask.domain.paths import base_name
from aerotask.metadata.file_types import MAYBE_VECTOR_SUFFIXES, EntryType, suffix_of


class DerivativeKind(StrEnum):
    """Kind of derivative."""

    COG = "cog"
    COPC = "copc"
    NXZ = "nxz"
    PMTILES = "pmtiles"
    GPKG = "gpkg"


@dataclass(frozen=True, slots=True)
class KindInfo:
    """Facts of a kind: its files and its sources."""

    title: str
    suffix: str
    media_type: str
    builder: str
    """Version of the builder; derivatives of an older one are rebuilt."""
    growth: float
    """Estimated bytes per byte of the source, rather too many than too few."""
    entry_type: EntryType
    formats: frozenset[str]
    """Source formats, by their usual suffix."""
    missing: Callable[[], str | None] = lambda: None
    """Reason why this installation can't build it, and the remedy; None if it can."""


_VECTOR_FORMATS = MAYBE_VECTOR_SUFFIXES | frozenset(
    [
        "geojson",
        "geojsonl",
        "geojsons",
        "geojsonseq",
        "gpkg",
        "shp",
        "shz",
        "kml",
        "kmz",
        "fgb",
        "dxf",
        "gml",
        "gpx",
    ]
)
KIND_INFO: Mapping[DerivativeKind, KindInfo] = {
    DerivativeKind.COG: KindInfo(
        title="Cloud-optimised GeoTIFF",
        suffix=".cog.tif",
        media_type="image/tiff",
        builder="3",
        growth=6.0,
        entry_type=EntryType.GEO_RASTER,
        formats=frozenset(["tif", "tiff", "jp2", "png", "jpg", "jpeg"]),
    ),
    DerivativeKind.COPC: KindInfo(
        title="Cloud-optimised point cloud",
        suffix=".copc.laz",
        media_type="application/vnd.laszip+copc",
        builder="3",
        growth=2.0,
        entry_type=EntryType.POINT_CLOUD,
        formats=frozenset(["las", "laz"]),
    ),
    DerivativeKind.NXZ: KindInfo(
        title="Multi-resolution mesh (Nexus)",
        suffix=".nxz",
        media_type="application/octet-stream",
        builder="1",
        growth=1.0,
        entry_type=EntryType.MODEL,
        formats=frozenset(["obj", "ply", "glb", "stl"]),
        missing=nxz_missing,
    ),
    DerivativeKind.PMTILES: KindInfo(
        title="Vector tiles (PMTiles)",
        suffix=".pmtiles",
        media_type="application/vnd.pmtiles",
        builder="2",
        growth=4.0,
        entry_type=EntryType.VECTOR,
        formats=_VECTOR_FORMATS,
    ),
    DerivativeKind.GPKG: KindInfo(
        title="GeoPackage",
        suffix=".gpkg",
        media_type="application/geopackage+sqlite3",
        builder="2",
        growth=4.0,
        entry_type=EntryType.VECTOR,
        formats=_VECTOR_FORMATS,
    ),
}

# Files in these formats are rarely georeferenced: only the index can tell.
_RARELY_GEOREFERENCED = MAYBE_VECTOR_SUFFIXES | frozenset({"jp2", "png", "jpg", "jpeg"})
# Entries of these types may have formats that no builder reads.
_FORMAT_DECIDES = frozenset({EntryType.POINT_CLOUD, EntryType.MODEL})


def kinds_by_name(path: str) -> tuple[DerivativeKind, ...]:
    """Kinds that a file of that name promises before it has been indexed."""
    suffix = suffix_of(path)
    return () if suffix in _RARELY_GEOREFERENCED else kinds_in(suffix)


def kinds_of(path: str, entry_type: str, properties: Mapping[str, Any]) -> tuple[DerivativeKind, ...]:
    """Kinds for an indexed entry: its type decides, whatever its name."""
    kinds = tuple(kind for kind, info in KIND_INFO.items() if info.entry_type == entry_type)
    if entry_type in _FORMAT_DECIDES and kinds_in(str(properties.get("format") or suffix_of(path))) != kinds:
        return ()
    return kinds


def kinds_in(file_format: str) -> tuple[DerivativeKind, ...]:
    """Kinds that can be built from a file in that format, given as its usual suffix."""
    return tuple(kind for kind, info in KIND_INFO.items() if file_format in info.formats)


def missing_for(kind: DerivativeKind) -> str | None:
    """Reason why this installation can't build that kind, and the remedy; None if it can."""
    return KIND_INFO[kind].missing()


def download_name(path: str, kind: DerivativeKind) -> str:
    """File name for downloading a derivative of the entry at `path`."""
    stem = base_name(path).rpartition(".")[0] or base_name(path)
    return stem + KIND_INFO[kind].suffix

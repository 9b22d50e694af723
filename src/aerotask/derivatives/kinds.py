"""The kinds of derivatives: which entries each is made of, and what a client gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aerotask.derivatives.nxz import nxz_missing
from aerotask.domain.paths import base_name
from aerotask.metadata.file_types import EntryType, suffix_of


class DerivativeKind(StrEnum):
    """What can be derived from an entry."""

    COG = "cog"
    COPC = "copc"
    NXZ = "nxz"
    PMTILES = "pmtiles"
    GPKG = "gpkg"


@dataclass(frozen=True, slots=True)
class KindInfo:
    """What is known of a kind before any is made; derivatives of an older `builder` are made anew."""

    title: str
    suffix: str
    media_type: str
    builder: str
    growth: float
    """About how many bytes each byte of the source becomes, rather more than less."""


KIND_INFO: Mapping[DerivativeKind, KindInfo] = {
    DerivativeKind.COG: KindInfo("Cloud-optimised GeoTIFF", ".cog.tif", "image/tiff", "1", 6.0),
    DerivativeKind.COPC: KindInfo(
        "Cloud-optimised point cloud", ".copc.laz", "application/vnd.laszip+copc", "2", 2.0
    ),
    DerivativeKind.NXZ: KindInfo(
        "Multi-resolution mesh (Nexus)", ".nxz", "application/octet-stream", "1", 1.0
    ),
    DerivativeKind.PMTILES: KindInfo(
        "Vector tiles (PMTiles)", ".pmtiles", "application/vnd.pmtiles", "1", 4.0
    ),
    DerivativeKind.GPKG: KindInfo("GeoPackage", ".gpkg", "application/geopackage+sqlite3", "1", 4.0),
}

_OF_FORMAT: Mapping[str, tuple[DerivativeKind, ...]] = {
    name: kinds
    for names, kinds in {
        "tif tiff jp2 png jpg jpeg": (DerivativeKind.COG,),
        "las laz": (DerivativeKind.COPC,),
        "obj ply glb stl": (DerivativeKind.NXZ,),
        "geojson gpkg shp kml kmz fgb dxf gml": (DerivativeKind.PMTILES, DerivativeKind.GPKG),
    }.items()
    for name in names.split()
}
# Of pictures in these formats nobody expects to lie anywhere, until the index has found that one does.
_RARELY_PLACED = frozenset({"jp2", "png", "jpg", "jpeg"})
_OF_TYPE: Mapping[str, tuple[DerivativeKind, ...]] = {
    EntryType.GEO_RASTER: (DerivativeKind.COG,),
    EntryType.POINT_CLOUD: (DerivativeKind.COPC,),
    EntryType.MODEL: (DerivativeKind.NXZ,),
    EntryType.VECTOR: (DerivativeKind.PMTILES, DerivativeKind.GPKG),
}
# These types also have files in formats of which nothing can be made.
_IN_SOME_FORMATS = frozenset({EntryType.POINT_CLOUD, EntryType.MODEL})


def kinds_by_name(path: str) -> tuple[DerivativeKind, ...]:
    """What may be derived from a file of that name, as long as nobody has looked into it."""
    suffix = suffix_of(path)
    return () if suffix in _RARELY_PLACED else kinds_in(suffix)


def kinds_of(path: str, entry_type: str, properties: Mapping[str, Any]) -> tuple[DerivativeKind, ...]:
    """What is derived from an entry that the index has looked into: its type decides, whatever its name."""
    kinds = _OF_TYPE.get(entry_type, ())
    if entry_type in _IN_SOME_FORMATS and kinds_in(str(properties.get("format") or suffix_of(path))) != kinds:
        return ()
    return kinds


def kinds_in(file_format: str) -> tuple[DerivativeKind, ...]:
    """What can be made of a file in that format, given as its usual suffix."""
    return _OF_FORMAT.get(file_format, ())


def missing_for(kind: DerivativeKind) -> str | None:
    """What this installation lacks to make that kind, and how to get it; None if nothing."""
    return nxz_missing() if kind is DerivativeKind.NXZ else None


def download_name(path: str, kind: DerivativeKind) -> str:
    """Under which name a derivative of the entry at `path` is downloaded."""
    stem = base_name(path).rpartition(".")[0] or base_name(path)
    return stem + KIND_INFO[kind].suffix

"""The kinds of derivatives: which entries each is made of, and what a client gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from aerotask.derivatives.nxz import nxz_missing
from aerotask.domain.paths import base_name
from aerotask.media.types import EntryType, suffix_of


class Kind(StrEnum):
    """What can be derived from an entry."""

    COG = "cog"
    COPC = "copc"
    NXZ = "nxz"
    PMTILES = "pmtiles"
    GPKG = "gpkg"


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What is known of a kind before any is made; derivatives of an older `builder` are made anew."""

    title: str
    suffix: str
    media_type: str
    builder: str
    growth: float
    """About how many bytes each byte of the source becomes, rather more than less."""


FACTS: Mapping[Kind, KindFacts] = {
    Kind.COG: KindFacts("Cloud-optimised GeoTIFF", ".cog.tif", "image/tiff", "1", 6.0),
    Kind.COPC: KindFacts("Cloud-optimised point cloud", ".copc.laz", "application/vnd.laszip+copc", "1", 2.0),
    Kind.NXZ: KindFacts("Multi-resolution mesh (Nexus)", ".nxz", "application/octet-stream", "1", 1.0),
    Kind.PMTILES: KindFacts("Vector tiles (PMTiles)", ".pmtiles", "application/vnd.pmtiles", "1", 4.0),
    Kind.GPKG: KindFacts("GeoPackage", ".gpkg", "application/geopackage+sqlite3", "1", 4.0),
}

_BY_SUFFIX: Mapping[str, tuple[Kind, ...]] = {
    suffix: kinds
    for suffixes, kinds in {
        "tif tiff": (Kind.COG,),
        "las laz": (Kind.COPC,),
        "obj ply glb stl": (Kind.NXZ,),
        "geojson gpkg shp kml kmz fgb dxf gml": (Kind.PMTILES, Kind.GPKG),
    }.items()
    for suffix in suffixes.split()
}


def kinds_for(path: str) -> tuple[Kind, ...]:
    """What may be derived from a file of that name; a raster must also say where it lies."""
    return _BY_SUFFIX.get(suffix_of(path), ())


def kinds_of(path: str, entry_type: str, *, indexed: bool) -> tuple[Kind, ...]:
    """What is derived from an entry: of rasters, only those that the index doesn't know to have no place."""
    kinds = kinds_for(path)
    unplaced = indexed and entry_type != EntryType.GEO_RASTER
    return tuple(kind for kind in kinds if not (kind is Kind.COG and unplaced))


def missing_for(kind: Kind) -> str | None:
    """What this installation lacks to make that kind, and how to get it; None if nothing."""
    return nxz_missing() if kind is Kind.NXZ else None


def download_name(path: str, kind: Kind) -> str:
    """Under which name a derivative of the entry at `path` is downloaded."""
    stem = base_name(path).rpartition(".")[0] or base_name(path)
    return stem + FACTS[kind].suffix

"""Metadata of vector files: driver, layers, feature counts, extents and CRS.

All uploaded vector files reach GDAL through this module. The content has to match the suffix, and it is opened
under a plain name in its own folder, with only its own side files beside it and without network access. (Otherwise a
JSON file named `.geojson` could make GDAL's GDALG driver read any local file, and an XML file its VRT and WFS drivers.)
"""

from __future__ import annotations

import io
import math
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import SHAPEFILE_SIDE_SUFFIXES, suffix_of
from aerotask.metadata.geojson import Bounds, Footprint, footprint_of_all, footprint_of_bounds
from aerotask.metadata.gpkg_views import check_views
from aerotask.metadata.ogr import DataLayerError, DataSourceError, pyogrio

MIB = 1024 * 1024
MAX_LAYERS = 64
MAX_FIELDS = 256
"""Fields listed per layer."""
MAX_LISTED_CHARS = 100_000
"""Characters of field names and CRSs in all layers together; further ones are left out."""
MAX_CRS_CHARS = 20_000
_HEAD_BYTES = 64 * 1024

GDAL_OPTIONS: dict[str, Any] = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:9",  # a closed port
    "GDAL_HTTP_TIMEOUT": "1",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_NUM_THREADS": "1",
    "GDAL_PAM_ENABLED": "NO",
    "GML_SKIP_RESOLVE_ELEMS": "ALL",
    "OGR_GEOJSON_MAX_OBJ_SIZE": "50",
    "OGR_SQLITE_STATIC_VIRTUAL_OGR": "NO",
    "OGR_SQLITE_LOAD_EXTENSIONS": "",
    "SHAPE_RESTORE_SHX": "NO",
}


@dataclass(frozen=True, slots=True)
class VectorMetadata:
    """Properties of a vector file, with its footprint if its CRS is known."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    footprint: Footprint | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """Drivers, size limit and content check of one kind of file."""

    drivers: frozenset[str]
    max_bytes: int
    begins: Callable[[Path, bytes], bool]
    prefix: str = ""
    """Path prefix that selects the driver, where GDAL has one."""


def extract_vector(path: Path, kind: str) -> VectorMetadata:
    """Extracts the metadata of the vector file at `path`, whose kind is given as its suffix; side files are beside it.

    Raises:
        InvalidInput: it is not a vector file of the kind that its name says (`unreadable-vector`), it is too large
            (`vector-too-large`), a side file is missing (`missing-side-file`), or a view takes too long to compute
            (`vector-too-slow`).
    """
    rules = _KINDS[kind]
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head or not rules.begins(path, head):
        raise _unreadable(path, "it is empty" if not head else "its content doesn't match its suffix")
    if file_bytes > rules.max_bytes:
        raise InvalidInput(
            f"{shown(path.name)} has {file_bytes / MIB:,.0f} MiB; metadata are extracted from files of this kind up "
            f"to {rules.max_bytes / MIB:,.0f} MiB. Convert it to a GeoPackage, or split it.",
            code="vector-too-large",
        )
    if kind == "shp":
        _raise_if_side_files_missing(path)
    pyogrio.set_gdal_config_options(GDAL_OPTIONS)
    with _isolated(path, kind) as source:
        if kind == "gpkg":
            check_views(source, path.name)
        try:
            return _metadata(f"{rules.prefix}{source}", rules)
        except MemoryError:
            raise
        except (DataSourceError, DataLayerError) as error:
            raise _unreadable(path, _reason(error, source)) from error
        # pyogrio fails on some results of GDAL, such as a CRS that it can't decode.
        except Exception as error:
            raise _unreadable(path, "its metadata can't be decoded") from error


@contextmanager
def _isolated(path: Path, suffix: str) -> Iterator[Path]:
    """Links the file under a plain name into an empty folder; a shapefile with its side files."""
    with tempfile.TemporaryDirectory(prefix="vector-") as folder:
        source = Path(folder) / f"source.{suffix}"
        source.symlink_to(path.absolute())
        if suffix == "shp":
            for side in _sides(path):
                source.with_suffix(f".{suffix_of(side.name)}").symlink_to(side.absolute())
        yield source


def _sides(path: Path) -> list[Path]:
    stem = path.name[: -len(".shp")]
    return [
        file
        for file in path.parent.iterdir()
        if file.name.startswith(f"{stem}.") and file.name[len(stem) + 1 :].lower() in SHAPEFILE_SIDE_SUFFIXES
    ]


def _raise_if_side_files_missing(path: Path) -> None:
    present = {suffix_of(side.name) for side in _sides(path)}
    missing = [f".{suffix}" for suffix in ("shx", "dbf") if suffix not in present]
    if missing:
        raise InvalidInput(
            f"The shapefile {shown(path.name)} lacks its {' and '.join(missing)} file; upload its side files into the "
            "same folder under the same name.",
            code="missing-side-file",
        )


def _metadata(source: str, rules: _Kind) -> VectorMetadata:
    if rules.prefix:  # it has one layer, and selecting it by name would parse the whole file again
        infos = [_info(source, None)]
        names = [str(infos[0]["layer_name"])]
    else:
        names = [str(name) for name, _ in pyogrio.list_layers(source)]
        infos = [_info(source, name) for name in names[:MAX_LAYERS]]
    if not infos:
        raise DataSourceError("it has no layer")
    for info in infos:
        if info["driver"] not in rules.drivers:
            raise DataSourceError(f"it opens as {info['driver']}")
    layers = _bounded([_layer(info) for info in infos])
    bounds = [_bounds_4326(layer) for layer in layers]
    properties: dict[str, Any] = {
        "driver": infos[0]["driver"],
        "layerCount": len(names),
        "layers": layers,
        "featureCount": sum(layer["featureCount"] for layer in layers),
    }
    known = [each for each in bounds if each is not None]
    if not known:
        return VectorMetadata(properties)
    return VectorMetadata(properties, footprint_of_all(known))


def _info(source: str, layer: str | None) -> dict[str, Any]:
    found: dict[str, Any] = pyogrio.read_info(
        source, layer=layer, force_feature_count=True, force_total_bounds=True
    )
    return found


def _layer(info: Mapping[str, Any]) -> dict[str, Any]:
    names, types = list(info["fields"]), list(info["ogr_types"])
    bounds = info["total_bounds"]
    finite = bounds is not None and all(math.isfinite(value) for value in bounds)
    return {
        "name": str(info["layer_name"])[:200],
        "geometryType": info["geometry_type"],
        "featureCount": max(int(info["features"]), 0),
        "crs": info["crs"] if len(info["crs"] or "") <= MAX_CRS_CHARS else None,
        "bounds": [float(value) for value in bounds] if finite else None,
        "fields": [
            {"name": str(name)[:200], "type": str(kind).removeprefix("OFT")}
            for name, kind in zip(names, types, strict=True)
        ],
    }


def _bounded(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers, with their field lists cut to what an index may hold."""
    left = MAX_LISTED_CHARS
    for layer in layers:
        left -= len(layer["crs"] or "") + len(layer["name"])
        fields = layer["fields"]
        layer["fieldCount"], layer["fields"] = len(fields), []
        for each in fields[:MAX_FIELDS]:
            left -= len(each["name"])
            if left < 0:
                break
            layer["fields"].append(each)
    return layers


def _bounds_4326(layer: Mapping[str, Any]) -> Bounds | None:
    if layer["crs"] is None or layer["bounds"] is None or not layer["featureCount"]:
        return None
    x0, y0, x1, y1 = layer["bounds"]
    footprint = footprint_of_bounds(layer["crs"], (x0, y0, x1, y1))
    return None if footprint is None else footprint.bounds


def _is_json(_path: Path, head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}


def _is_geopackage(_path: Path, head: bytes) -> bool:
    """Checks the magic number of SQLite and the application id (OGC 12-128r18, requirement 2)."""
    return head.startswith(b"SQLite format 3\0") and head[68:72] in {b"GPKG", b"GP10", b"GP11"}


def _is_shapefile(_path: Path, head: bytes) -> bool:
    return head.startswith(b"\0\0\x27\x0a")


def _is_flatgeobuf(_path: Path, head: bytes) -> bool:
    return head.startswith(b"fgb\x03fgb")


def _is_kml(_path: Path, head: bytes) -> bool:
    return _root(head) == "kml"


def _is_gml(_path: Path, head: bytes) -> bool:
    return _root(head) in {"FeatureCollection", "featureCollection", "GML", "Dictionary"}


def _is_kmz(path: Path, _head: bytes) -> bool:
    """Checks for a ZIP with a KML file that doesn't unpack to more than the limit for KML."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False
    sizes = [member.file_size for member in members]
    return (
        len(members) <= 10_000
        and sum(sizes) <= _KINDS["kml"].max_bytes
        and any(member.filename.lower().endswith(".kml") for member in members)
    )


def _is_dxf(_path: Path, head: bytes) -> bool:
    return b"\0" not in head and b"SECTION" in head


def _root(head: bytes) -> str:
    """Local name of an XML document's root element; empty if there is none within the head."""
    try:
        for _, element in iterparse(io.BytesIO(head), events=("start",), forbid_dtd=True):
            return str(element.tag).rpartition("}")[2]
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return ""
    return ""


_KINDS: Mapping[str, _Kind] = {
    "geojson": _Kind(frozenset({"GeoJSON"}), 256 * MIB, _is_json, "GeoJSON:"),
    "gpkg": _Kind(frozenset({"GPKG"}), 1024 * 1024 * MIB, _is_geopackage),
    "shp": _Kind(frozenset({"ESRI Shapefile"}), 4096 * MIB, _is_shapefile),
    "fgb": _Kind(frozenset({"FlatGeobuf"}), 1024 * 1024 * MIB, _is_flatgeobuf),
    "kml": _Kind(frozenset({"LIBKML", "KML"}), 64 * MIB, _is_kml),
    "kmz": _Kind(frozenset({"LIBKML", "KML"}), 64 * MIB, _is_kmz),
    "gml": _Kind(frozenset({"GML"}), 64 * MIB, _is_gml),
    "dxf": _Kind(frozenset({"DXF"}), 64 * MIB, _is_dxf),
}


def _reason(error: Exception, source: Path) -> str:
    """GDAL's error message without our temporary paths."""
    text = " ".join(str(error).split()).replace(str(source.parent) + "/", "")
    return (text.removesuffix(".") or "it can't be read")[:500]


def _unreadable(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{shown(path.name)} is not a readable vector file: {why}.", code="unreadable-vector")

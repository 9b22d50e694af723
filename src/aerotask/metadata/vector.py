"""What a vector file holds: driver, layers, counts, extents, CRS.

The one door through which vector files from outside reach GDAL. The content has to begin like what the name says; it
is opened in a folder of its own under a plain name, where no sidecar lies but those that belong to it, and without a
network. (A JSON text that calls itself `.geojson` could otherwise have GDAL's GDALG driver read any local file, an
XML text its VRT and WFS drivers.)
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
from aerotask.metadata.file_types import SHAPEFILE_SIDES, suffix_of
from aerotask.metadata.geojson import Bounds, Footprint, place_of_all, place_of_bounds
from aerotask.metadata.ogr import DataLayerError, DataSourceError, pyogrio

MIB = 1024 * 1024
MAX_LAYERS = 64
MAX_FIELDS = 256
"""Of a layer."""
MAX_LISTED_CHARS = 100_000
"""Of names of fields and coordinate systems in all layers together; what comes after is left out."""
MAX_CRS_CHARS = 20_000
_HEAD_BYTES = 64 * 1024

GDAL_OPTIONS: dict[str, Any] = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:9",  # nobody listens there
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
    """What was found, with the place where the CRS is known."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    place: Footprint | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """What may open a kind of file, and how much of it is read."""

    drivers: frozenset[str]
    max_bytes: int
    begins: Callable[[Path, bytes], bool]
    prefix: str = ""
    """Names the only driver, where GDAL takes it from the path."""


def describe(path: Path, kind: str) -> VectorMetadata:
    """Look into the vector file at `path`, whose kind is given as its suffix; a shapefile's side files lie beside it.

    Raises:
        InvalidInput: it is no vector file of the kind that its name says (`unreadable-vector`), too large to be read
            here (`vector-too-large`), or a side file is missing (`missing-side-file`).
    """
    rules = _KINDS[kind]
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head or not rules.begins(path, head):
        raise _unreadable(path, "it is empty" if not head else "its content is of another kind")
    if file_bytes > rules.max_bytes:
        raise InvalidInput(
            f"{shown(path.name)} has {file_bytes / MIB:,.0f} MiB, of which at most {rules.max_bytes / MIB:,.0f} MiB are "
            "read to describe it. Convert it to a GeoPackage, or cut it into parts.",
            code="vector-too-large",
        )
    if kind == "shp":
        _refuse_without_index(path)
    pyogrio.set_gdal_config_options(GDAL_OPTIONS)
    with _apart(path, kind) as source:
        try:
            return _described(f"{rules.prefix}{source}", rules)
        except MemoryError:
            raise
        except (DataSourceError, DataLayerError) as error:
            raise _unreadable(path, _reason(error, source)) from error
        # pyogrio itself stumbles over some of what GDAL tells it, such as a CRS that it can't write as text.
        except Exception as error:
            raise _unreadable(path, "its description makes no sense") from error


@contextmanager
def _apart(path: Path, suffix: str) -> Iterator[Path]:
    """The file under a plain name in an empty folder, for a shapefile with its own side files."""
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
        if file.name.startswith(f"{stem}.") and file.name[len(stem) + 1 :].lower() in SHAPEFILE_SIDES
    ]


def _refuse_without_index(path: Path) -> None:
    present = {suffix_of(side.name) for side in _sides(path)}
    missing = [f".{suffix}" for suffix in ("shx", "dbf") if suffix not in present]
    if missing:
        raise InvalidInput(
            f"The shapefile {shown(path.name)} lacks its {' and '.join(missing)}; upload the files that belong to it "
            "into the same folder, under the same name.",
            code="missing-side-file",
        )


def _described(source: str, rules: _Kind) -> VectorMetadata:
    if rules.prefix:  # one layer, and naming it would read the whole text once more
        infos = [_info(source, None)]
        names = [str(infos[0]["layer_name"])]
    else:
        names = [str(name) for name, _ in pyogrio.list_layers(source)]
        infos = [_info(source, name) for name in names[:MAX_LAYERS]]
    if not infos:
        raise DataSourceError("it holds no layer")
    for info in infos:
        if info["driver"] not in rules.drivers:
            raise DataSourceError(f"it opens as {info['driver']}")
    layers = _bounded([_layer(info) for info in infos])
    places = [_bounds_4326(layer) for layer in layers]
    properties: dict[str, Any] = {
        "driver": infos[0]["driver"],
        "layerCount": len(names),
        "layers": layers,
        "featureCount": sum(layer["featureCount"] for layer in layers),
    }
    known = [place for place in places if place is not None]
    if not known:
        return VectorMetadata(properties)
    return VectorMetadata(properties, place_of_all(known))


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
    """The layers without the fields for which there is no room in an index."""
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
    place = place_of_bounds(layer["crs"], (x0, y0, x1, y1))
    return None if place is None else place.bounds


def _is_json(_path: Path, head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}


def _is_geopackage(_path: Path, head: bytes) -> bool:
    """OGC 12-128r18, requirement 2: SQLite's magic number and the application's."""
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
    """A ZIP with a KML text that unpacks to no more than is read of one."""
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
    """The local name of an XML text's root element; empty if there is none within the head."""
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
    """GDAL's own words without the paths, which are ours."""
    text = " ".join(str(error).split()).replace(str(source.parent) + "/", "")
    return (text.removesuffix(".") or "it can't be read")[:500]


def _unreadable(path: Path, why: str) -> InvalidInput:
    return InvalidInput(f"{shown(path.name)} is not a readable vector file: {why}.", code="unreadable-vector")

"""Formats of vector files: how each has to begin and which drivers of GDAL may read it, for the index and builds alike.

Some drivers treat a file as a reference to other sources: any local file, any URL. They are never registered, the
content has to match the suffix, and the file must have been opened by a driver of its format.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from aerotask.metadata.vectors.tables import CSV_OPTIONS, is_located_table
from aerotask.metadata.vectors.zipped_shapefile import shapefile_in

MIB = 1024 * 1024
HEAD_BYTES = MIB
MAX_TEXT_BYTES = 64 * MIB
"""Limit of the index for text formats other than GeoJSON, and for what a KMZ unpacks to."""

GDAL_OPTIONS: Mapping[str, str] = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:9",  # a closed port
    "GDAL_HTTP_TIMEOUT": "1",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_PAM_ENABLED": "NO",
    "GML_SKIP_RESOLVE_ELEMS": "ALL",
    "OGR_GEOJSON_MAX_OBJ_SIZE": "50",  # MB of one feature
    "OGR_SQLITE_STATIC_VIRTUAL_OGR": "NO",
    "OGR_SQLITE_LOAD_EXTENSIONS": "",
    "SHAPE_RESTORE_SHX": "NO",
}
"""GDAL without network access and without silent repairs."""

_BOM = b"\xef\xbb\xbf"
_REFERRING = re.compile(rb"<OGR[A-Z]*DataSource|gdal_streamed_alg|<GDAL_|<!ENTITY", re.IGNORECASE)
_FEATURE = re.compile(rb'"type"\s*:\s*"Feature"')
_TOPOLOGY = re.compile(rb'"type"\s*:\s*"Topology"')
_ESRI = re.compile(rb'"geometryType"\s*:\s*"esriGeometry')
_JSON_FG = re.compile(rb'"conformsTo"\s*:\s*\[[^\]]*json-fg')


@dataclass(frozen=True, slots=True)
class VectorFormat:
    """Format of a suffix."""

    name: str
    drivers: frozenset[str]
    max_index_bytes: int
    begins: Callable[[Path, bytes], bool]
    """Whether a file begins, and a container is made, like one of this format."""
    options: Mapping[str, str] = field(default_factory=dict)
    """GDAL's options to open it."""
    address: Callable[[str, Path, bytes], str] = lambda source, _path, _head: source
    """GDAL's name for the file that is linked at `source`."""
    crs: str | None = None
    """Coordinate system by definition, where GDAL doesn't tell it."""
    has_one_layer: bool = False
    keeps_empty_layers: bool = True


def refers_elsewhere(head: bytes) -> bool:
    """Whether the content asks GDAL to read other sources."""
    return _REFERRING.search(head) is not None


def _is_json(_path: Path, head: bytes) -> bool:
    return head.removeprefix(_BOM).lstrip(b"\x1e \t\r\n")[:1] in {b"{", b"["}


def json_driver(head: bytes) -> str:
    """The driver for GeoJSON that begins like this; features may stand one after the other (RFC 8142, or one a line)."""
    if _TOPOLOGY.search(head):
        return "TopoJSON"
    if _ESRI.search(head):
        return "ESRIJSON"
    if _JSON_FG.search(head):
        return "JSONFG"
    text = head.removeprefix(_BOM).lstrip()
    if text.startswith(b"\x1e"):
        return "GeoJSONSeq"
    readable = text.decode("utf-8", errors="replace")
    try:
        _, end = json.JSONDecoder().raw_decode(readable)
    except (ValueError, RecursionError):
        return "GeoJSON"
    return "GeoJSONSeq" if readable[end:].lstrip().startswith(("{", "\x1e")) else "GeoJSON"


def _json_address(source: str, _path: Path, head: bytes) -> str:
    return f"{json_driver(head)}:{source}"


def _is_feature_sequence(path: Path, head: bytes) -> bool:
    """Whether JSON of any kind, one value a line, is of features."""
    return _is_json(path, head) and _FEATURE.search(head[:65_536]) is not None


def _is_geopackage(_path: Path, head: bytes) -> bool:
    """Checks the magic number of SQLite and the application id (OGC 12-128r18, requirement 2)."""
    return head.startswith(b"SQLite format 3\0") and head[68:72] in {b"GPKG", b"GP10", b"GP11"}


def _is_shapefile(_path: Path, head: bytes) -> bool:
    return head.startswith(b"\0\0\x27\x0a")


def is_whole_shapefile(path: Path, head: bytes) -> bool:
    """Whether the file is as long as its header says in 16-bit words (ESRI Shapefile Technical Description, 1998).

    From a shorter file, GDAL would silently return features without geometries.
    """
    return 2 * int.from_bytes(head[24:28], "big") == path.stat().st_size


DBF_HEAD_BYTES = 12


def is_whole_dbf(head: bytes, file_bytes: int) -> bool:
    """Whether a Shapefile's table holds the records that its head declares (dBASE: their number, and two lengths).

    From a shorter one, GDAL would silently leave out features.
    """
    if len(head) < DBF_HEAD_BYTES:
        return False
    records, header_bytes, record_bytes = struct.unpack_from("<IHH", head, 4)
    return bool(header_bytes > DBF_HEAD_BYTES and header_bytes + records * record_bytes <= file_bytes)


def _is_flatgeobuf(_path: Path, head: bytes) -> bool:
    return head.startswith(b"fgb\x03fgb")


def _has_root(*names: str) -> Callable[[Path, bytes], bool]:
    return lambda _path, head: _root(head) in names


def _root(head: bytes) -> str:
    """Local name of an XML document's root element; empty if there is none within the head."""
    try:
        for _, element in iterparse(io.BytesIO(head), events=("start",), forbid_dtd=True):
            return str(element.tag).rpartition("}")[2]
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return ""
    return ""


def _is_kmz(path: Path, _head: bytes) -> bool:
    """Checks for a ZIP with a KML file that doesn't unpack to more than the limit for KML."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False
    return (
        len(members) <= 10_000
        and sum(member.file_size for member in members) <= MAX_TEXT_BYTES
        and any(member.filename.lower().endswith(".kml") for member in members)
    )


def _is_dxf(_path: Path, head: bytes) -> bool:
    return head.startswith(b"AutoCAD Binary DXF") or (b"\0" not in head and b"SECTION" in head[:4096])


def _is_zipped_shapefile(path: Path, _head: bytes) -> bool:
    return shapefile_in(path) is not None


def _zipped_address(source: str, path: Path, _head: bytes) -> str:
    return f"/vsizip/{{{source}}}/{shapefile_in(path)}"


_JSON = VectorFormat(
    "GeoJSON",
    frozenset({"GeoJSON", "GeoJSONSeq", "TopoJSON", "ESRIJSON", "JSONFG"}),
    256 * MIB,
    _is_json,
    address=_json_address,
)
_ZIPPED = VectorFormat(
    "zipped Shapefile",
    frozenset({"ESRI Shapefile"}),
    4096 * MIB,
    _is_zipped_shapefile,
    address=_zipped_address,
)
_KML = frozenset({"LIBKML", "KML"})
_LARGE = 1024 * 1024 * MIB
FORMATS: Mapping[str, VectorFormat] = {
    **dict.fromkeys(("geojson", "geojsonl", "geojsons", "geojsonseq"), _JSON),
    "ndjson": replace(_JSON, begins=_is_feature_sequence),
    "gpkg": VectorFormat("GeoPackage", frozenset({"GPKG"}), _LARGE, _is_geopackage),
    "shp": VectorFormat("Shapefile", frozenset({"ESRI Shapefile"}), 4096 * MIB, _is_shapefile),
    "fgb": VectorFormat("FlatGeobuf", frozenset({"FlatGeobuf"}), _LARGE, _is_flatgeobuf),
    "kml": VectorFormat("KML", _KML, MAX_TEXT_BYTES, _has_root("kml")),
    "kmz": VectorFormat("KMZ", _KML, MAX_TEXT_BYTES, _is_kmz),
    "gml": VectorFormat(
        "GML",
        frozenset({"GML"}),
        MAX_TEXT_BYTES,
        _has_root("FeatureCollection", "featureCollection"),
        options={"DOWNLOAD_SCHEMA": "NO"},
    ),
    "dxf": VectorFormat("DXF", frozenset({"DXF"}), MAX_TEXT_BYTES, _is_dxf),
    "gpx": VectorFormat(
        "GPX", frozenset({"GPX"}), MAX_TEXT_BYTES, _has_root("gpx"), keeps_empty_layers=False
    ),
    "csv": VectorFormat(
        "CSV with longitudes and latitudes",
        frozenset({"CSV"}),
        MAX_TEXT_BYTES,
        lambda _path, head: is_located_table(head),
        options=CSV_OPTIONS,
        crs="EPSG:4326",
        has_one_layer=True,
    ),
    **dict.fromkeys(("zip", "shz"), _ZIPPED),
}
"""Formats by the suffix of their files."""

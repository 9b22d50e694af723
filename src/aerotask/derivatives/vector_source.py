"""Vector source: the only access of untrusted vector files to GDAL's drivers in pyogrio.

pyogrio can't restrict the drivers that may open a file, and some drivers treat a file as a reference to other sources:
any local file, any URL. Those drivers are never registered; a file must begin as its suffix promises and must have been
opened by a driver for that format.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import suffix_of
from aerotask.metadata.gpkg_views import check_views
from aerotask.metadata.ogr import pyogrio

GDAL_OPTIONS = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_PROXY": "http://127.0.0.1:9",  # a port without a server
    "GDAL_HTTP_MAX_RETRY": "0",
    "GML_SKIP_RESOLVE_ELEMS": "ALL",
    "OGR_GEOJSON_MAX_OBJ_SIZE": "50",  # MB of one feature
    "OGR_SQLITE_STATIC_VIRTUAL_OGR": "NO",
    "SHAPE_RESTORE_SHX": "NO",
}
"""GDAL without network access and without silent repairs."""

_HEAD_BYTES = 1024 * 1024
MAX_WHOLE_JSON_BYTES = 32 * 1024 * 1024
"""Limit for JSON that GDAL must read as a whole, which takes 30 times its size in memory."""
# GDAL reads these one feature at a time: a collection, or a sequence of features (RFC 8142).
_JSON_IN_PARTS = re.compile(rb'"FeatureCollection"|\}\s*\x1e?\s*\{')
_REFERRING = re.compile(rb"<OGR[A-Z]*DataSource|gdal_streamed_alg|<GDAL_|<!ENTITY", re.IGNORECASE)
_XML_ROOT = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?[^>]*\?>|<!--.*?-->|<!DOCTYPE[^>\[]*>|\s)*<([\w.:-]+)", re.DOTALL
)
_MAX_WARNINGS = 5


@dataclass(frozen=True, slots=True)
class _Format:
    """Format of a suffix: the start that its files must have, and the drivers that may open them."""

    name: str
    start: re.Pattern[bytes]
    drivers: frozenset[str]
    options: Mapping[str, str] = field(default_factory=dict)


_KML = frozenset({"LIBKML", "KML"})
_FORMATS: Mapping[str, _Format] = {
    "geojson": _Format(
        "GeoJSON",
        re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]"),
        frozenset({"GeoJSON", "GeoJSONSeq", "TopoJSON", "ESRIJSON", "JSONFG"}),
    ),
    "gpkg": _Format("GeoPackage", re.compile(rb"SQLite format 3\0"), frozenset({"GPKG"})),
    "shp": _Format("Shapefile", re.compile(rb"\0\0\x27\x0a"), frozenset({"ESRI Shapefile"})),
    "kml": _Format("KML", re.compile(rb".*", re.DOTALL), _KML),
    "kmz": _Format("KMZ", re.compile(rb"PK\x03\x04"), _KML),
    "fgb": _Format("FlatGeobuf", re.compile(rb"fgb.fgb", re.DOTALL), frozenset({"FlatGeobuf"})),
    "dxf": _Format(
        "DXF", re.compile(rb"AutoCAD Binary DXF|(?:.{0,4096}\bSECTION\b)", re.DOTALL), frozenset({"DXF"})
    ),
    "gml": _Format("GML", re.compile(rb".*", re.DOTALL), frozenset({"GML"}), {"DOWNLOAD_SCHEMA": "NO"}),
}
_ROOTS = {"kml": {b"kml"}, "gml": {b"FeatureCollection"}}


@dataclass(frozen=True, slots=True)
class Layer:
    """Layer of a vector file; `bounds` (west, south, east, north) are in its own coordinate system."""

    name: str
    crs: str | None
    geometry_type: str | None
    fields: tuple[str, ...]
    features: int
    bounds: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class VectorFile:
    """Vector file that passed the checks; `options` are the driver options to open it with."""

    path: Path
    layers: tuple[Layer, ...]
    options: Mapping[str, str]


def open_vector(path: Path) -> VectorFile:
    """Check and open the vector file at `path`.

    Raises:
        InvalidInput: its content doesn't match its suffix, is damaged, or has no layer (`unreadable-vector`); it can
            only be read as a whole and is too large for that (`vector-too-large`), or one of its views takes too
            long to compute (`vector-too-slow`).
    """
    form = _FORMATS.get(suffix_of(path.name))
    if form is None:
        raise _unreadable(path, "its format is not supported")
    _check_start(path, form)
    if suffix_of(path.name) == "gpkg":
        check_views(path, path.name)
    pyogrio.set_gdal_config_options(GDAL_OPTIONS)
    with vector_errors(path):
        names = [str(name) for name, _ in pyogrio.list_layers(path)]
        layers = tuple(_layer(path, name, form) for name in names)
    if not layers:
        raise _unreadable(path, "it has no layers")
    return VectorFile(path, layers, form.options)


@contextmanager
def vector_errors(path: Path) -> Iterator[None]:
    """Translate GDAL's errors on a damaged file to `InvalidInput`."""
    try:
        yield
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FieldError,
    ) as error:
        raise _unreadable(path, _gdal_message(error, path)) from error
    except (ValueError, RuntimeError, UnicodeError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise _unreadable(path, _gdal_message(error, path)) from error


@contextmanager
def collect_warnings(into: list[str]) -> Iterator[None]:
    """Collect the first few distinct warnings of GDAL."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        if text not in into and len(into) < _MAX_WARNINGS and "'crs' was not provided" not in text:
            into.append(text[:200])


def copy_layer(vector: VectorFile, layer: Layer, target: Path, *, driver: str, **options: Any) -> None:
    """Stream one layer into a file of another driver; to an existing GeoPackage it is added."""
    opened = pyogrio.raw.open_arrow(vector.path, layer=layer.name, use_pyarrow=False, **vector.options)
    with opened as (metadata, features):
        pyogrio.raw.write_arrow(
            features,
            target,
            layer=layer.name,
            driver=driver,
            geometry_name=metadata["geometry_name"] or "wkb_geometry" if layer.geometry_type else None,
            geometry_type=layer.geometry_type,
            crs=layer.crs,
            **options,
        )


def feature_counts(path: Path) -> dict[str, int]:
    """Number of features in each layer of a file that we have written, counted by reading them."""
    return {
        str(name): int(pyogrio.read_info(path, layer=name, force_feature_count=True)["features"])
        for name, _ in pyogrio.list_layers(path)
    }


def _check_start(path: Path, form: _Format) -> None:
    with path.open("rb") as content:
        start = content.read(_HEAD_BYTES)
    if not start:
        raise _unreadable(path, "it is empty")
    roots = _ROOTS.get(suffix_of(path.name))
    if not form.start.match(start) or (roots and _root(start) not in roots):
        raise _unreadable(path, f"it doesn't begin like a {form.name} file")
    if form.name == "Shapefile" and _declared_bytes(start) != path.stat().st_size:
        # GDAL would silently return features without geometries.
        raise _unreadable(path, "its length differs from the one in its header, so it is incomplete")
    if (
        form.name == "GeoJSON"
        and path.stat().st_size > MAX_WHOLE_JSON_BYTES
        and not _JSON_IN_PARTS.search(start)
    ):
        raise InvalidInput(
            f"{shown(path.name)} is not a FeatureCollection, so it must be read as a whole, and is too large for that. "
            "Convert it to a GeoPackage.",
            code="vector-too-large",
        )
    if _REFERRING.search(start):
        raise _unreadable(path, "it refers to other files; upload those themselves")


def _declared_bytes(start: bytes) -> int:
    """Length of a Shapefile's main file (ESRI Shapefile Technical Description, 1998: 16-bit words at byte 24)."""
    return 2 * int.from_bytes(start[24:28], "big")


def _root(start: bytes) -> bytes | None:
    """Name of an XML document's root element, without its prefix."""
    found = _XML_ROOT.match(start)
    return found.group(1).rpartition(b":")[2] if found else None


def _layer(path: Path, name: str, form: _Format) -> Layer:
    info: Mapping[str, Any] = pyogrio.read_info(
        path, layer=name, force_feature_count=True, force_total_bounds=True, **form.options
    )
    if info["driver"] not in form.drivers:
        raise _unreadable(path, f"it is not a {form.name} file but one for the driver {info['driver']}")
    bounds = info["total_bounds"]
    return Layer(
        name=name,
        crs=info["crs"],
        geometry_type=info["geometry_type"],
        fields=tuple(str(name) for name in info["fields"]),
        features=int(info["features"]),
        bounds=None if bounds is None else tuple(float(value) for value in bounds),  # type: ignore[arg-type]
    )


def _gdal_message(error: BaseException, path: Path) -> str:
    """GDAL's message without the path of the file's folder."""
    return str(error).replace(f"{path.parent}/", "")[:300]


def _unreadable(path: Path, reason: str) -> InvalidInput:
    return InvalidInput(
        f"{shown(path.name)} is not a readable vector file: {reason.rstrip('.')}.", code="unreadable-vector"
    )

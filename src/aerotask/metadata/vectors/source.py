"""Vector source: the only way in which uploaded vector files reach GDAL.

A file is opened under a plain name in a folder of its own, with only its own side files beside it, by a driver for its
format, and without network access. (Otherwise a JSON file named `.geojson` could make GDAL's GDALG driver read any
local file, and an XML file its VRT and WFS drivers.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import SHAPEFILE_SIDE_SUFFIXES, suffix_of
from aerotask.metadata.gpkg_views import check_views
from aerotask.metadata.ogr import pyogrio
from aerotask.metadata.vectors.degrees import (
    Bounds,
    Boxes,
    check_coordinates,
    is_geographic,
    why_not_degrees,
)
from aerotask.metadata.vectors.faults import fault_of
from aerotask.metadata.vectors.formats import (
    DBF_HEAD_BYTES,
    FORMATS,
    GDAL_OPTIONS,
    HEAD_BYTES,
    VectorFormat,
    is_whole_dbf,
    is_whole_shapefile,
    refers_elsewhere,
)
from aerotask.metadata.vectors.longitudes import longitudes_across
from aerotask.metadata.vectors.zipped_shapefile import shapefile_in, table_of

MAX_GEOMETRIES = 50_000
"""Features of a layer whose geometries are read to find out on which side of the Earth they lie."""
_SHAPEFILES = frozenset({"shp", "zip", "shz"})
_LINK = "linked-vector-file"
"""Plain name of the file; layers that GDAL names after the file have it, and hardly any others."""


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """Layer as GDAL describes it, under its own name and with the coordinate system that it really has."""

    name: str
    gdal_name: str
    crs: str | None
    """None also if the coordinates can't be what the file says."""
    bounds: Bounds | None
    warning: str | None
    """Why the coordinates can't be what the file says."""
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VectorSource:
    """Vector file that passed the checks of its start: GDAL's name for it and the options to open it with."""

    address: str
    form: VectorFormat
    stem: str
    """Name of the entry without its suffix."""

    @property
    def options(self) -> Mapping[str, str]:
        """GDAL's options to open it."""
        return self.form.options

    def layer_names(self) -> list[str]:
        """GDAL's names of the layers."""
        return [str(name) for name, _ in pyogrio.list_layers(self.address)]

    def layers(self, most: int | None = None) -> tuple[list[LayerInfo], int]:
        """Descriptions of the first layers, and the number of all.

        Raises:
            pyogrio.errors.DataSourceError: a layer can't be read.
            Unreadable: there is no layer, or the file is of another format.
        """
        if self.address.startswith(("GeoJSON:", "GeoJSONSeq:")) or self.form.has_one_layer:
            # Selecting the only layer by name would parse the whole file again.
            return [self._described(None)], 1
        names = self.layer_names()
        found = [self._described(name) for name in names[:most]]
        if not self.form.keeps_empty_layers:
            filled = [layer for layer in found if layer.info["features"]]
            return filled or found[:1], len(filled) or 1
        if not found:
            raise Unreadable("it has no layer that can be read")
        return found, len(names)

    def _described(self, name: str | None) -> LayerInfo:
        info: dict[str, Any] = pyogrio.read_info(
            self.address, layer=name, force_feature_count=True, force_total_bounds=True, **self.options
        )
        if info["driver"] not in self.form.drivers:
            raise Unreadable(f"its content is not {self.form.name} but {info['driver']}")
        gdal_name = str(info["layer_name"])
        crs = info["crs"] or (self.form.crs if info["geometry_type"] else None)
        total = _bounds(info)
        found = check_coordinates(crs, total, partial(self._boxes, gdal_name))
        name = self.stem if gdal_name == _LINK else gdal_name
        is_wrong = total is not None and not found.can_be_true
        return LayerInfo(
            name=name,
            gdal_name=gdal_name,
            crs=None if is_wrong else crs,
            bounds=found.bounds,
            warning=why_not_degrees(name, total) if is_wrong and total else None,
            info=info,
        )

    def longitudes_across(self, layer: LayerInfo) -> tuple[float, float] | None:
        """West and east of a layer in degrees that lies on both sides of ±180°, east above 180; else None.

        Layers of more than `MAX_GEOMETRIES` features aren't read for this.

        Raises:
            pyogrio.errors.DataLayerError: a geometry can't be read.
        """
        bounds = layer.bounds
        if bounds is None or bounds[2] - bounds[0] <= 180 or not is_geographic(layer.crs or ""):
            return None
        if layer.info["features"] > MAX_GEOMETRIES:
            return None
        _, _, geometries, _ = pyogrio.raw.read(
            self.address, layer=layer.gdal_name, columns=[], **self.options
        )
        return longitudes_across(shapely.from_wkb(geometries, on_invalid="ignore"))

    def _boxes(self, layer: str) -> Boxes:
        if self.options:  # GDAL makes the geometries by them
            _, _, geometries, _ = pyogrio.raw.read(self.address, layer=layer, columns=[], **self.options)
            boxes: Boxes = shapely.bounds(shapely.from_wkb(geometries, on_invalid="ignore"))
            return boxes
        _, columns = pyogrio.read_bounds(self.address, layer=layer)
        return np.ascontiguousarray(np.asarray(columns, np.float64).T)


@contextmanager
def open_source(path: Path, kind: str, *, folder: Path | None = None) -> Iterator[VectorSource]:
    """Checks the start of the file at `path` and links it; `folder` is where the folder for the link is made.

    `kind` is the suffix of its format, which its name may lack.

    Raises:
        InvalidInput: its content doesn't match its suffix or refers to other sources (`unreadable-vector`), a side file
            is missing (`missing-side-file`), or one of its views takes too long to compute (`vector-too-slow`).
    """
    form = FORMATS.get(kind)
    if form is None:
        raise unreadable(path, "its format is not supported")
    head = _head(path)
    if not head or not form.begins(path, head):
        fault = f"its content doesn't match its suffix: it is no complete {form.name} file"
        raise unreadable(path, fault if head else "it is empty")
    if refers_elsewhere(head):
        raise unreadable(path, "it refers to other files; upload those themselves")
    if kind == "shp":
        _raise_if_side_files_missing(path)
        if not is_whole_shapefile(path, head):
            raise unreadable(path, "its length differs from the one in its header, so it is incomplete")
    if kind in _SHAPEFILES and not is_whole_dbf(*_table(path, kind)):
        raise unreadable(path, "its .dbf file is damaged or incomplete, so features would be missing")
    with tempfile.TemporaryDirectory(prefix="vector-", dir=folder) as own:
        link = Path(own) / f"{_LINK}.{kind}"
        link.symlink_to(path.absolute())
        if kind == "shp":
            for side in _sides(path):
                link.with_suffix(f".{suffix_of(side.name)}").symlink_to(side.absolute())
        if kind == "gpkg":
            check_views(link, path.name)
        pyogrio.set_gdal_config_options(dict(GDAL_OPTIONS))
        has_suffix = suffix_of(path.name) == kind
        stem = path.name[: -len(f".{kind}")] if has_suffix else path.name
        yield VectorSource(form.address(str(link), path, head), form, stem or path.name)


def _sides(path: Path) -> list[Path]:
    """Side files of the Shapefile at `path`, in any case."""
    stem = path.name.rpartition(".")[0]
    return [
        file
        for file in path.parent.iterdir()
        if file.name.startswith(f"{stem}.") and file.name[len(stem) + 1 :].lower() in SHAPEFILE_SIDE_SUFFIXES
    ]


def _table(path: Path, kind: str) -> tuple[bytes, int]:
    """Start and length of a Shapefile's table."""
    if kind != "shp":
        return table_of(path, shapefile_in(path) or "", DBF_HEAD_BYTES)
    table = next(side for side in _sides(path) if suffix_of(side.name) == "dbf")
    with table.open("rb") as content:
        return content.read(DBF_HEAD_BYTES), table.stat().st_size


def _bounds(info: Mapping[str, Any]) -> Bounds | None:
    if info["total_bounds"] is None:
        return None
    west, south, east, north = map(float, info["total_bounds"])
    return west, south, east, north


def _raise_if_side_files_missing(path: Path) -> None:
    present = {suffix_of(side.name) for side in _sides(path)}
    missing = [f".{suffix}" for suffix in ("shx", "dbf") if suffix not in present]
    if missing:
        raise InvalidInput(
            f"The shapefile {shown(path.name)} lacks its {' and '.join(missing)} file; upload its side files into the "
            "same folder under the same name.",
            code="missing-side-file",
        )


class Unreadable(Exception):
    """Fault of a vector file in plain words."""


def why_unreadable(error: BaseException, path: Path, kind: str) -> str:
    """Fault in plain words of the file at `path`, whose kind is given as its suffix, and which GDAL can't read."""
    if isinstance(error, UnicodeError):
        return (
            "its names are not in the encoding that it declares; a Shapefile's is in its .cpg file, and without one it is "
            "ISO 8859-1"
        )
    return str(error) if isinstance(error, Unreadable) else fault_of(path, kind, str(error))


def unreadable(path: Path, why: str) -> InvalidInput:
    """Refusal of a file that is no vector file of its format."""
    return InvalidInput(
        f"{shown(path.name)} is not a readable vector file: {why.rstrip('.')}.", code="unreadable-vector"
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as content:
        return content.read(HEAD_BYTES)

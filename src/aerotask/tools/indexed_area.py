"""Area of an export as far as the index knows it, for checks and plans that open no file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aerotask.derivatives.sources import check_complete
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import EntryType
from aerotask.raster.export.area import (
    AreaOptions,
    Box,
    CutlineEntry,
    ExportArea,
    locate_box,
    locate_extent,
    require_georeference,
)
from aerotask.raster.export.cutline_geojson import boxes_of
from aerotask.raster.export.cutline_limits import check_file_size, check_layers, may_have_polygons
from aerotask.raster.profile import RasterProfile
from aerotask.sdk import DatasetView, EntryView, InvalidInput


def check_cutline(area: AreaOptions, dataset: DatasetView) -> None:
    """Check the entry that a cutline names, if it does, as far as the index describes it.

    Raises:
        InvalidInput: it isn't a vector file (`not-a-vector`) or lacks a side file (`missing-side-file`), has no polygons
            (`invalid-cutline`) or no coordinate system (`not-georeferenced`), or is too large (`cutline-too-large`).
    """
    if not isinstance(area, CutlineEntry):
        return
    entry = dataset.file(area.path)
    if entry.indexed and entry.type != EntryType.VECTOR:
        fault = entry.properties.get("indexError", {})
        raise InvalidInput(
            fault.get("message") or f"{shown(entry.path)} is not a vector file, so it can't be a cutline.",
            code="not-a-vector",
        )
    check_file_size(entry.path, entry.size_bytes)
    check_complete(entry.path, dataset.entries)
    layers = _layers(entry)
    if layers:
        facts = [(layer["geometryType"], layer["crs"], int(layer["featureCount"])) for layer in layers]
        check_layers(shown(entry.path), facts, next(iter(entry.properties.get("warnings", ())), None))


def known_area(area: AreaOptions, profile: RasterProfile, dataset: DatasetView) -> ExportArea | None:
    """The window of an indexed raster that the area asks for; None where only the cutline's file tells.

    Raises:
        InvalidInput: the area can't be exported from this raster.
    """
    require_georeference(profile)
    if isinstance(area, Box):
        return locate_box(area, profile)
    if not isinstance(area, CutlineEntry):
        return locate_extent(boxes_of(area), profile)
    boxes = [
        Box(tuple(layer["bounds"]), layer["crs"])
        for layer in _layers(dataset.file(area.path))
        if layer["crs"] and layer["bounds"] and may_have_polygons(layer["geometryType"])
    ]
    return locate_extent(boxes, profile) if boxes and all(map(_is_plain, boxes)) else None


def _layers(entry: EntryView) -> list[Mapping[str, Any]]:
    layers: list[Mapping[str, Any]] = entry.properties.get("layers", []) if entry.indexed else []
    return layers


def _is_plain(box: Box) -> bool:
    """Whether the bounds are those of a rectangle that can be transformed."""
    west, south, east, north = box.bounds
    return all(map(math.isfinite, box.bounds)) and west <= east and south <= north

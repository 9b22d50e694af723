"""Vector source of a build: its layers, opened as the index opens them, and copies of them by GDAL."""

from __future__ import annotations

import errno
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerotask.domain.disk_full import has_hardly_any_space
from aerotask.domain.errors import AerotaskError, InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import suffix_of
from aerotask.metadata.ogr import pyogrio
from aerotask.metadata.vectors.formats import HEAD_BYTES
from aerotask.metadata.vectors.source import (
    LayerInfo,
    Unreadable,
    VectorSource,
    open_source,
    unreadable,
    why_unreadable,
)

MAX_WHOLE_JSON_BYTES = 32 * 1024 * 1024
"""Limit for JSON that GDAL must read as a whole, which takes 30 times its size in memory."""
# GDAL reads these one feature at a time: a collection, or a sequence of features (RFC 8142).
_JSON_IN_PARTS = re.compile(rb'"FeatureCollection"|\}\s*\x1e?\s*\{')
# Warnings of GDAL about matters that the reports of a build tell by themselves.
_OWN_WARNINGS = re.compile("'crs' was not provided|Non closed ring detected")
_KNOWN_WARNINGS = (
    (
        "have been found. Altering it to be unique",
        "Several features have the same id; the later ones get others.",
    ),
    (
        "Unsupported geometry type",
        "Some features have a geometry of an unknown type; they are kept without it.",
    ),
    ("has been truncated", "Some texts are longer than the format allows and were cut."),
    ("truncated to", "Some texts are longer than the format allows and were cut."),
    ("onverted correctly from", "Some characters aren't in the declared encoding and were replaced."),
    ("nvalid UTF-8", "Some characters aren't in the declared encoding and were replaced."),
    ("ormalized/laundered", "Some fields were renamed, since the format doesn't allow their names."),
    ("Block ", "The drawing refers to blocks that it doesn't contain; they are left out."),
)
"""Parts of GDAL's warnings, and what they mean for the user."""
_OTHER_WARNING = (
    "Something in the file is unusual, so compare the result with it; the administrator finds the converter's own words "
    "in the worker's log under this task's id."
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layer:
    """Layer of a vector file; `bounds` (west, south, east, north) are in its own coordinate system."""

    name: str
    gdal_name: str
    crs: str | None
    geometry_type: str | None
    fields: tuple[str, ...]
    id_column: str | None
    features: int
    bounds: tuple[float, float, float, float] | None
    warning: str | None
    """Why its coordinates can't be what the file says; its `crs` is None then."""


@dataclass(frozen=True, slots=True)
class VectorFile:
    """Vector file that passed the checks."""

    path: Path
    source: VectorSource
    layers: tuple[Layer, ...]


@contextmanager
def open_vector(path: Path, *, folder: Path | None = None) -> Iterator[VectorFile]:
    """Check and open the vector file at `path`, with GDAL's errors on damaged files translated within the block.

    Raises:
        InvalidInput: its content doesn't match its suffix, is damaged, or has no layer (`unreadable-vector`); it can
            only be read as a whole and is too large for that (`vector-too-large`), a side file is missing
            (`missing-side-file`), or one of its views takes too long to compute (`vector-too-slow`).
    """
    with vector_errors(path, folder), open_source(path, suffix_of(path.name), folder=folder) as source:
        if source.form.name == "GeoJSON":
            _raise_if_read_whole(path)
        found, _ = source.layers()
        yield VectorFile(path, source, tuple(map(_layer, found)))


@contextmanager
def vector_errors(path: Path, folder: Path | None = None) -> Iterator[None]:
    """Translate GDAL's errors on a damaged file to `InvalidInput`; with a full disk at `folder` they are `OSError`."""
    try:
        yield
    except AerotaskError:
        raise
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyogrio.errors.FieldError,
        Unreadable,
        ValueError,
        RuntimeError,
        UnicodeError,
    ) as error:
        if folder is not None and has_hardly_any_space(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise unreadable(path, why_unreadable(error, path, suffix_of(path.name))) from error


@contextmanager
def collect_warnings(into: list[str], source: Path) -> Iterator[None]:
    """Collect what GDAL warns about in `source`, in plain words; its own texts, with the server's paths, are logged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told: dict[str, None] = {}
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        if _OWN_WARNINGS.search(text):
            continue
        _log.warning("%s: %s", shown(source.name), text)
        told.setdefault(next((words for raw, words in _KNOWN_WARNINGS if raw in text), _OTHER_WARNING))
    into += told


def copy_layer(
    vector: VectorFile, layer: Layer, target: Path, *, keeps_ids: bool = False, **written: Any
) -> None:
    """Stream one layer into a file of another driver; to an existing GeoPackage it is added.

    `written` are pyogrio's options for the copy. Coordinates aren't transformed; `crs` is what the copy says of them. Its
    features have the ids of the source if its column of ids has the same name as theirs.
    """
    opened = pyogrio.raw.open_arrow(
        vector.source.address,
        layer=layer.gdal_name,
        use_pyarrow=False,
        return_fids=keeps_ids,
        **vector.source.options,
    )
    with opened as (metadata, features):
        pyogrio.raw.write_arrow(
            features,
            target,
            layer=layer.name,
            geometry_name=metadata["geometry_name"] or "wkb_geometry" if layer.geometry_type else None,
            **written,
        )


def feature_counts(path: Path) -> dict[str, int]:
    """Number of features in each layer of a file that we have written, counted by reading them."""
    return {
        str(name): int(pyogrio.read_info(path, layer=name, force_feature_count=True)["features"])
        for name, _ in pyogrio.list_layers(path)
    }


def _raise_if_read_whole(path: Path) -> None:
    if path.stat().st_size <= MAX_WHOLE_JSON_BYTES:
        return
    with path.open("rb") as content:
        start = content.read(HEAD_BYTES)
    if not _JSON_IN_PARTS.search(start):
        raise InvalidInput(
            f"{shown(path.name)} is not a FeatureCollection, so it must be read as a whole, and is too large for that. "
            "Convert it to a GeoPackage.",
            code="vector-too-large",
        )


def _layer(found: LayerInfo) -> Layer:
    return Layer(
        name=found.name,
        gdal_name=found.gdal_name,
        crs=found.crs,
        geometry_type=found.info["geometry_type"],
        fields=tuple(str(name) for name in found.info["fields"]),
        id_column=found.info["fid_column"] or None,
        features=int(found.info["features"]),
        bounds=found.bounds,
        warning=found.warning,
    )

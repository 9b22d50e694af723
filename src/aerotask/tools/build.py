"""build: what maps and viewers read piecemeal, made once of each entry's content.

Nothing here loads GDAL: what makes the derivatives is a process that a run begins.
"""

from __future__ import annotations

from collections.abc import Iterator

from aerotask.derivatives.kinds import KIND_INFO, DerivativeKind, kinds_by_name, kinds_of, missing_for
from aerotask.derivatives.run_build import run_build
from aerotask.derivatives.sources import check_complete, paths_beside, source_key
from aerotask.domain.paths import shown
from aerotask.sdk import (
    Access,
    DatasetView,
    EntryPath,
    EntryView,
    InvalidInput,
    Plan,
    RunContext,
    Tool,
    ToolParams,
)

MEMORY_BYTES = 2 * 1024**3
"""Held by a limit on the child; a cloud that is worked on in memory takes most of it."""
MAX_WRITES = 100
"""More entries than this are named by the folder that they lie in."""
_SMALLEST_ESTIMATE_BYTES = 64 * 1024


class BuildParams(ToolParams):
    """Of what to make derivatives."""

    path: EntryPath | None = None
    """One file, or a folder with everything below it; left out: every entry of the dataset that lacks a derivative."""

    force: bool = False
    """Make derivatives anew also where they are there."""

    def entry_paths(self) -> tuple[str, ...]:
        """The entry with what may belong to it, or the whole dataset."""
        return ("",) if self.path is None else (self.path, *paths_beside(self.path))


class Build(Tool[BuildParams]):
    """Makes cloud-optimised forms of rasters, point clouds, meshes and vector files."""

    id, version, title = "build", "1", "Build derivatives"
    description = (
        "Makes what maps and viewers read piecemeal: COG of rasters, COPC of point clouds, NXZ of meshes, "
        "PMTiles and GeoPackage of vector files."
    )
    access = Access.WRITE
    uses_derivatives = True
    plan_properties = frozenset({"indexError", "format"})

    def check(self, params: BuildParams, dataset: DatasetView) -> None:
        """Refuse a file that nothing can be made of; a folder's or dataset's are told of in the result."""
        if params.path is None:
            return
        entry = dataset.entry(params.path)
        if not entry.is_folder:
            _check_file(entry, dataset)

    def plan(self, params: BuildParams, dataset: DatasetView) -> Plan:
        """Read what lacks a derivative, with what belongs to it."""
        chosen = list(_chosen(params, dataset))
        beside = [path for entry in chosen for path in paths_beside(entry.path) if path in dataset.entries]
        paths = tuple(entry.path for entry in chosen)
        estimate = sum(_estimate_bytes(entry) for entry in chosen)
        return Plan(
            estimated_output_bytes=max(estimate, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=tuple(dict.fromkeys((*paths, *beside))),
            writes=paths if len(paths) <= MAX_WRITES else (params.path or "",),
        )

    def run(self, params: BuildParams, ctx: RunContext) -> None:
        """Make each, read it back, and go on with the next whatever becomes of it."""
        run_build(ctx, only=params.path, force=params.force)


def _chosen(params: BuildParams, dataset: DatasetView) -> Iterator[EntryView]:
    """The entry that is named, else those that lack a derivative."""
    hashes = {path: entry.sha256 for path, entry in dataset.entries.items()}
    for entry in dataset.below(params.path or ""):
        kinds = _kinds(entry)
        if not kinds:
            continue
        key = source_key(entry.path, hashes)
        lacks = any((key, kind, KIND_INFO[kind].builder) not in dataset.derived for kind in kinds)
        if lacks or params.force or entry.path == params.path:
            yield entry


def _kinds(entry: EntryView) -> tuple[DerivativeKind, ...]:
    """What is derived from the entry; of one that the index couldn't read, what its name promises, to be told of."""
    if entry.is_folder:
        return ()
    known = entry.indexed and "indexError" not in entry.properties
    return kinds_of(entry.path, entry.type, entry.properties) if known else kinds_by_name(entry.path)


def _check_file(entry: EntryView, dataset: DatasetView) -> None:
    kinds = _kinds(entry)
    if not kinds:
        raise InvalidInput(
            f"Nothing is derived from {shown(entry.path)}. A georeferenced raster, a LAS or LAZ cloud, an OBJ, PLY, GLB "
            "or STL mesh, and a GeoJSON, GeoPackage, Shapefile, KML, KMZ, FlatGeobuf, DXF or GML file can be built.",
            code="nothing-to-build",
        )
    fault = entry.properties.get("indexError")
    if fault and DerivativeKind.COG in kinds:
        raise InvalidInput(fault["message"], code=fault["code"])
    check_complete(entry.path, dataset.entries)
    missing = [reason for reason in map(missing_for, kinds) if reason]
    if len(missing) == len(kinds):
        raise InvalidInput(
            f"{shown(entry.path)} can't be built: {missing[0]}.", code="derivative-unavailable"
        )


def _estimate_bytes(entry: EntryView) -> int:
    return round(entry.size_bytes * sum(KIND_INFO[kind].growth for kind in _kinds(entry)))

"""Tool `build`: builds the derivatives that maps and viewers read by parts (COG, COPC, GLB, PMTiles).

No code here loads GDAL: a run starts a builder process for the derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator

from aerotask.derivatives.kinds import KIND_INFO, DerivativeKind, kinds_by_name, kinds_of, missing_for
from aerotask.derivatives.run_build import run_build
from aerotask.derivatives.sources import (
    check_complete,
    paths_beside,
    side_files,
    source_key,
    textures_begin_with,
)
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
"""Memory limit of the child; sorting a point cloud in memory takes most of it."""
MAX_WRITES = 100
"""With more entries, the plan names their folder instead."""
_SMALLEST_ESTIMATE_BYTES = 64 * 1024


class BuildParams(ToolParams):
    """The entries to build derivatives of."""

    path: EntryPath | None = None
    """A file, or a folder with everything below it; by default every entry of the dataset that lacks a derivative."""

    force: bool = False
    """Rebuild existing derivatives."""

    def entry_paths(self) -> tuple[str, ...]:
        """The entry with its side files, or the whole dataset; for a mesh's textures, which have any name, its folder."""
        if self.path is None:
            return ("",)
        has_textures = textures_begin_with(self.path) is not None
        return (
            self.path,
            *paths_beside(self.path),
            *([self.path.rpartition("/")[0]] if has_textures else []),
        )


class Build(Tool[BuildParams]):
    """Builds cloud-optimised derivatives of rasters, point clouds, meshes and vector files."""

    id, version, title = "build", "1", "Build derivatives"
    description = (
        "Builds derivatives for maps and viewers: COG of rasters, COPC of point clouds, GLB and NXZ of meshes, "
        "PMTiles and GeoPackage of vector files."
    )
    access = Access.WRITE
    uses_derivatives = True
    plan_properties = frozenset({"indexError", "format"})

    def check(self, params: BuildParams, dataset: DatasetView) -> None:
        """Refuse a file without derivatives; for folders and datasets, such files are listed in the result."""
        if params.path is None:
            return
        entry = dataset.entry(params.path)
        if not entry.is_folder:
            _check_file(entry, dataset)

    def plan(self, params: BuildParams, dataset: DatasetView) -> Plan:
        """Read the entries that lack a derivative, with their side files."""
        chosen = list(_chosen(params, dataset))
        # In their order, unlike a set, so that the plan is always the same.
        files = dict.fromkeys(path for path, entry in dataset.entries.items() if not entry.is_folder)
        beside = [path for entry in chosen for path in side_files(entry.path, files)]
        paths = tuple(entry.path for entry in chosen)
        estimate = sum(_estimate_bytes(entry) for entry in chosen)
        estimate += sum(dataset.entries[path].size_bytes for path in set(beside))
        return Plan(
            estimated_output_bytes=max(estimate, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES,
            reads=tuple(dict.fromkeys((*paths, *beside))),
            writes=paths if len(paths) <= MAX_WRITES else (params.path or "",),
        )

    def run(self, params: BuildParams, ctx: RunContext) -> None:
        """Build and verify each derivative; a failure doesn't stop the others."""
        run_build(ctx, only=params.path, force=params.force)


def _chosen(params: BuildParams, dataset: DatasetView) -> Iterator[EntryView]:
    """The named file, or else the entries that lack a derivative."""
    hashes = {path: entry.sha256 for path, entry in dataset.entries.items() if not entry.is_folder}
    for entry in dataset.below(params.path or ""):
        kinds = _kinds(entry)
        if not kinds:
            continue
        key = source_key(entry.path, hashes)
        lacks = any(
            (key, kind, KIND_INFO[kind].builder) not in dataset.derived
            for kind in kinds
            if not missing_for(kind)
        )
        if lacks or params.force or entry.path == params.path:
            yield entry


def _kinds(entry: EntryView) -> tuple[DerivativeKind, ...]:
    """The derivatives of the entry; by its name if the index couldn't read it, so that the result reports it."""
    if entry.is_folder:
        return ()
    known = entry.indexed and "indexError" not in entry.properties
    return kinds_of(entry.path, entry.type, entry.properties) if known else kinds_by_name(entry.path)


def _check_file(entry: EntryView, dataset: DatasetView) -> None:
    kinds = _kinds(entry)
    if not kinds:
        raise InvalidInput(
            f"{shown(entry.path)} has no derivatives. A georeferenced raster, a LAS or LAZ cloud, an OBJ, PLY, GLB "
            "or STL mesh, a GeoJSON, GeoPackage, Shapefile (zipped too), KML, KMZ, FlatGeobuf, DXF, GML or GPX file, and a "
            "CSV with columns of longitudes and latitudes can be built.",
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

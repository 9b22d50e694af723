"""Tool `rescan-index`: rebuilds the index metadata of entries."""

from __future__ import annotations

from pydantic import Field

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.domain.suggestions import hint
from aerotask.metadata.file_types import EntryType, side_file_paths_of
from aerotask.sdk import Access, DatasetView, Plan, RunContext, Tool, ToolParams

MEMORY_BYTES = 512 * 1024**2
"""Memory limit of the child, and of each of its extractor processes."""
MEMORY_BYTES_PER_ENTRY = 16 * 1024

_TYPES_BY_NAME = {kind.lower(): kind for kind in EntryType}


class RescanIndexParams(ToolParams):
    """The entry types to rescan, and the treatment of unreadable files."""

    types: str | None = Field(None, min_length=1, max_length=512)
    """Entry types separated by commas, in any case: `geoImage,pointCloud`. By default every entry."""

    stop_on_error: bool = False
    """Change nothing if any entry can't be read; otherwise the result lists it and the others are updated."""

    def entry_paths(self) -> tuple[str, ...]:
        """The whole dataset."""
        return ("",)

    def chosen_types(self) -> frozenset[EntryType]:
        """The entry types to rescan.

        Raises:
            InvalidInput: there is no such type (`unknown-type`).
        """
        if self.types is None:
            return frozenset(EntryType)
        names = [name.strip() for name in self.types.split(",")]
        unknown = [name for name in names if name.lower() not in _TYPES_BY_NAME]
        if unknown:
            raise InvalidInput(
                f"There is no entry type {shown(unknown[0])}{hint(unknown[0], EntryType)}; the types are {', '.join(EntryType)}.",
                code="unknown-type",
            )
        return frozenset(_TYPES_BY_NAME[name.lower()] for name in names)


class RescanIndex(Tool[RescanIndexParams]):
    """Extracts the metadata of every entry again, as after its upload."""

    id, version, title = "rescan-index", "1", "Rescan index"
    description = (
        "Reads every entry again: content hash, type, EXIF and XMP, position, footprint, and the properties of rasters, "
        "point clouds, vectors and models."
    )
    access = Access.WRITE
    plan_properties = frozenset()

    def preload(self) -> None:
        """Load metadata extraction before the fork."""
        import aerotask.metadata.rescan  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: RescanIndexParams, dataset: DatasetView) -> None:  # noqa: ARG002  as the base has it
        """Refuse unknown types."""
        params.chosen_types()

    def plan(self, params: RescanIndexParams, dataset: DatasetView) -> Plan:
        """Read the chosen files with the side files of shapefiles and rasters, and change their index metadata."""
        chosen = _chosen(params, dataset)
        sides = {side for path in chosen for side in side_file_paths_of(path) if side in dataset.entries}
        reads = dict.fromkeys([*chosen, *sorted(sides)])
        return Plan(
            estimated_output_bytes=0,
            memory_bytes=MEMORY_BYTES + MEMORY_BYTES_PER_ENTRY * len(reads),
            reads=tuple(reads),
            writes=("",),
        )

    def run(self, params: RescanIndexParams, ctx: RunContext) -> None:
        """Read the files, and declare their metadata."""
        from aerotask.metadata.rescan import rescan  # noqa: PLC0415  loads GDAL, which the API must not

        rescan(ctx, types=params.chosen_types(), stop_on_error=params.stop_on_error)


def _chosen(params: RescanIndexParams, dataset: DatasetView) -> list[str]:
    types = params.chosen_types()
    return [path for path, entry in dataset.entries.items() if not entry.is_folder and entry.type in types]

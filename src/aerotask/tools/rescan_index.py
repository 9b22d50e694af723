"""rescan-index: what the index says of every entry, found out anew."""

from __future__ import annotations

from pydantic import Field

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.metadata.file_types import EntryType, side_file_paths_of
from aerotask.sdk import Access, DatasetView, Plan, RunContext, Tool, ToolParams

MEMORY_BYTES = 512 * 1024**2
"""Held by a limit on the child and on each of the processes in which it reads files."""
MEMORY_BYTES_PER_ENTRY = 16 * 1024

_TYPES_BY_NAME = {kind.lower(): kind for kind in EntryType}


class RescanIndexParams(ToolParams):
    """Which entries to look into, and what to do about those that can't be read."""

    types: str | None = Field(None, min_length=1, max_length=512)
    """Entry types separated by commas, in any case: `geoImage,pointCloud`. Left out: every entry."""

    stop_on_error: bool = False
    """Change nothing if any entry can't be read. Otherwise it is listed in the result, and the others are done."""

    def entry_paths(self) -> tuple[str, ...]:
        """The whole dataset."""
        return ("",)

    def chosen_types(self) -> frozenset[EntryType]:
        """The types to look into.

        Raises:
            InvalidInput: there is no such type (`unknown-type`).
        """
        if self.types is None:
            return frozenset(EntryType)
        names = [name.strip() for name in self.types.split(",")]
        unknown = [name for name in names if name.lower() not in _TYPES_BY_NAME]
        if unknown:
            raise InvalidInput(
                f"There is no entry type {shown(unknown[0])}; the types are {', '.join(EntryType)}.",
                code="unknown-type",
            )
        return frozenset(_TYPES_BY_NAME[name.lower()] for name in names)


class RescanIndex(Tool[RescanIndexParams]):
    """Looks into every entry anew, as an upload looks into its one."""

    id, version, title = "rescan-index", "1", "Rescan index"
    description = (
        "Reads every entry anew: content hash, type, EXIF and XMP, position, footprint, and the properties of rasters, "
        "point clouds, vectors and models."
    )
    access = Access.WRITE
    plan_properties = frozenset()

    def preload(self) -> None:
        """Load the reading before the fork."""
        import aerotask.metadata.rescan  # noqa: F401, PLC0415  loads GDAL, which the API must not

    def check(self, params: RescanIndexParams, dataset: DatasetView) -> None:  # noqa: ARG002  as the base has it
        """Refuse unknown types."""
        params.chosen_types()

    def plan(self, params: RescanIndexParams, dataset: DatasetView) -> Plan:
        """Read the chosen files, and the side files of shapefiles; change what the index says of them."""
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
        """Read the files, and declare what was found."""
        from aerotask.metadata.rescan import rescan  # noqa: PLC0415  loads GDAL, which the API must not

        rescan(ctx, types=params.chosen_types(), stop_on_error=params.stop_on_error)


def _chosen(params: RescanIndexParams, dataset: DatasetView) -> list[str]:
    types = params.chosen_types()
    return [path for path, entry in dataset.entries.items() if not entry.is_folder and entry.type in types]

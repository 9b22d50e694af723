"""Tool `bulk-download`: packs files, folders or a whole dataset into one ZIP."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from aerotask.domain import paths
from aerotask.sdk import (
    Access,
    DatasetView,
    EntryPath,
    EntryView,
    FileName,
    Plan,
    QuotaClass,
    RunContext,
    Tool,
    ToolParams,
)

MEMORY_BYTES = 512 * 1024**2
"""Memory limit of the child: a few members of up to 16 MiB are packed at a time, and the directory is kept."""
MEMORY_BYTES_PER_ENTRY = 4096
MAX_NAMED = 1000
# Two headers for each member, beside its name in both.
_HEADER_BYTES = 160
_SMALLEST_ESTIMATE_BYTES = 64 * 1024
_INDEX_BYTES_PER_ENTRY = 1024
_SUFFIX = ".zip"


def _with_suffix(name: str) -> str:
    return name if name.lower().endswith(_SUFFIX) else paths.file_name(name + _SUFFIX)


ZipName = Annotated[FileName, AfterValidator(_with_suffix)]


class BulkDownloadParams(ToolParams):
    """The entries to pack, and the name of the ZIP."""

    paths: tuple[EntryPath, ...] | None = Field(None, min_length=1, max_length=MAX_NAMED)
    """Files and folders; by default (or null) the whole dataset, with its index in the folder `.ddb`."""

    archive_name: ZipName | None = None
    """The name of the download, to which `.zip` is added where it is missing; by default the dataset's slug."""

    def entry_paths(self) -> tuple[str, ...]:
        """The named paths without duplicates; the root for the whole dataset."""
        return ("",) if self.paths is None else tuple(dict.fromkeys(self.paths))


class BulkDownload(Tool[BulkDownloadParams]):
    """Packs entries into a ZIP for download."""

    id, version, title = "bulk-download", "1", "Download as ZIP"
    description = (
        "Packs files, folders or the whole dataset into one ZIP; photos and other compressed files are stored, the rest "
        "is deflated."
    )
    access = Access.READ
    artifact_suffix = _SUFFIX
    quota_class = QuotaClass.BULK
    plan_properties = frozenset()

    def preload(self) -> None:
        """Load the ZIP writer before the fork."""
        import aerotask.archives.run_download  # noqa: F401, PLC0415  the API has no use for it

    def snapshot_of(self, params: BulkDownloadParams) -> tuple[str, ...]:
        """The entries to pack, with their index metadata."""
        return params.entry_paths()

    def check(self, params: BulkDownloadParams, dataset: DatasetView) -> None:
        """Refuse paths without an entry."""
        for path in params.paths or ():
            dataset.entry(path)

    def plan(self, params: BulkDownloadParams, dataset: DatasetView) -> Plan:
        """Estimate the ZIP by the size of the contents: most of them are compressed already."""
        chosen = _chosen(params.entry_paths(), dataset)
        content_bytes = sum(entry.size_bytes for entry in chosen)
        header_bytes = sum(_HEADER_BYTES + 2 * len(entry.path.encode()) for entry in chosen)
        index_bytes = _INDEX_BYTES_PER_ENTRY * len(chosen) if params.paths is None else 0
        return Plan(
            estimated_output_bytes=max(content_bytes + header_bytes + index_bytes, _SMALLEST_ESTIMATE_BYTES),
            memory_bytes=MEMORY_BYTES + MEMORY_BYTES_PER_ENTRY * len(chosen),
            reads=tuple(entry.path for entry in chosen if not entry.is_folder),
        )

    def run(self, params: BulkDownloadParams, ctx: RunContext) -> None:
        """Pack the entries in the order of their paths."""
        from aerotask.archives.run_download import run_download  # noqa: PLC0415  the API has no use for it

        name = params.archive_name or ctx.snapshot.slug + _SUFFIX
        run_download(ctx, name=name, with_index=params.paths is None)


def _chosen(selection: tuple[str, ...], dataset: DatasetView) -> list[EntryView]:
    """The selected entries, with everything below them."""
    selected = frozenset(selection)
    if "" in selected:
        return list(dataset.entries.values())
    return [
        entry
        for path, entry in dataset.entries.items()
        if path in selected or not selected.isdisjoint(paths.parents(path))
    ]

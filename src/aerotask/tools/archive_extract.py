"""Tool `archive-extract`: extracts an archive's files and folders into the dataset."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from aerotask.archives.formats import may_be_archive
from aerotask.archives.name_encoding import AUTO, NameEncoding
from aerotask.archives.rar import rar_extractor, rar_unsupported
from aerotask.domain import paths
from aerotask.sdk import (
    Access,
    DatasetView,
    EntryPath,
    InvalidInput,
    Plan,
    RunContext,
    Tool,
    ToolParams,
)

MEMORY_BYTES = 1024**3
"""Memory limit of the child: a few MiB a thread, the archive's directory, and up to 400 MiB for xz and 7z."""
_ESTIMATED_RATIO = 2
_PACKED_TYPES = frozenset({"generic", "vector"})

FolderPath = Annotated[str, AfterValidator(paths.folder_path), Field(max_length=paths.MAX_PATH_BYTES)]


class ArchiveExtractParams(ToolParams):
    """The archive, its destination, and the treatment of existing files."""

    source_path: EntryPath
    """The archive: ZIP, TAR (also .gz, .bz2, .xz, .zst), 7z, RAR, or a single .gz, .bz2 or .xz."""

    dest_path: FolderPath = ""
    """The destination folder, created if needed; the dataset's root by default."""

    delete_archive: bool = False
    """Remove the archive's entry after extraction, unless its content was replaced meanwhile.

    Requires the right to delete.
    """

    overwrite: bool = False
    """Replace existing files; otherwise they are kept and counted as skipped."""

    name_encoding: NameEncoding = AUTO
    """The encoding of names that aren't marked as UTF-8. By default it is guessed; uncertain names are warned of."""

    keep_litter: bool = False
    """Keep the files that macOS and Windows add for themselves (`__MACOSX`, `.DS_Store`, `Thumbs.db`, `desktop.ini`)."""

    def new_entry_paths(self) -> tuple[str, ...]:
        """The destination, except the root, which always exists."""
        return (self.dest_path,) if self.dest_path else ()


class ArchiveExtract(Tool[ArchiveExtractParams]):
    """Extracts archives, all or nothing."""

    id, version, title = "archive-extract", "1", "Extract archive"
    description = (
        "Extracts the files and folders of an archive into the dataset, all or none; an index in a folder `.ddb` is "
        "rebuilt from the contents."
    )
    access = Access.WRITE
    verifies_inputs = True

    def preload(self) -> None:
        """Load the archive readers before the fork."""
        import aerotask.archives.run_extract  # noqa: F401, PLC0415  the API has no use for it

    def required_access(self, params: ArchiveExtractParams) -> Access:
        """The right to delete if the archive's entry is to be removed."""
        return Access.DELETE if params.delete_archive else self.access

    def snapshot_of(self, params: ArchiveExtractParams) -> tuple[str, ...]:
        """The existing entries at and below the destination."""
        return (params.dest_path,)

    def check(self, params: ArchiveExtractParams, dataset: DatasetView) -> None:
        """Refuse unsupported and too large archives, and a destination that is a file."""
        archive = dataset.file(params.source_path)
        if archive.type not in _PACKED_TYPES or not may_be_archive(archive.path):
            raise InvalidInput(
                f"{paths.shown(archive.path)} is not an archive that can be extracted.",
                code="unsupported-format",
            )
        if archive.path.lower().endswith(".rar") and rar_extractor() is None:
            raise rar_unsupported()
        limit = dataset.limits.archive_bytes
        if archive.size_bytes > limit:
            raise InvalidInput(
                f"The archive has {archive.size_bytes} bytes, and the limit is {limit}.",
                code="archive-over-limit",
            )
        _check_not_a_file(params.dest_path, dataset)

    def plan(self, params: ArchiveExtractParams, dataset: DatasetView) -> Plan:
        """Estimate the extracted size from the archive's; only the run can read it."""
        archive = dataset.file(params.source_path)
        writes = (params.dest_path, *((archive.path,) if params.delete_archive else ()))
        return Plan(
            estimated_output_bytes=_ESTIMATED_RATIO * archive.size_bytes,
            memory_bytes=MEMORY_BYTES,
            reads=(archive.path,),
            writes=writes,
        )

    def run(self, params: ArchiveExtractParams, ctx: RunContext) -> None:
        """Extract into the work folder, and declare the entries."""
        from aerotask.archives.run_extract import ExtractOptions, run_extract  # noqa: PLC0415  the API has no use for it

        run_extract(
            ctx,
            ExtractOptions(
                source_path=params.source_path,
                dest_path=params.dest_path,
                overwrite=params.overwrite,
                delete_archive=params.delete_archive,
                name_encoding=params.name_encoding,
                keep_litter=params.keep_litter,
            ),
        )


def _check_not_a_file(folder: str, dataset: DatasetView) -> None:
    existing = dataset.entries.get(folder)
    if existing is not None and not existing.is_folder:
        raise InvalidInput(
            f"{paths.shown(folder)} is a file; name a folder to extract to.", code="not-a-folder"
        )

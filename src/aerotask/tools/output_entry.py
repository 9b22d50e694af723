"""Check of an output's path at submit: no folder may be there, and no file unless it may be replaced."""

from __future__ import annotations

from aerotask.domain.paths import shown
from aerotask.sdk import DatasetView, FieldError


def output_fault(path: str, dataset: DatasetView, *, overwrite: bool) -> FieldError | None:
    """The fault of an `outputPath` that can't be written, or None."""
    existing = dataset.entries.get(path)
    if existing is None:
        return None
    if existing.is_folder:
        message = f"There is a folder at {shown(path)}; choose another path."
        return FieldError("/params/outputPath", message, "entry-is-folder")
    if not overwrite:
        message = f"There is a file at {shown(path)}; choose another path, or set 'overwrite'."
        return FieldError("/params/outputPath", message, "output-exists")
    return None

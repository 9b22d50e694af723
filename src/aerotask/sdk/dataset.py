"""Dataset view for `check` and `plan`: entries with their index metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from aerotask.domain import paths
from aerotask.domain.errors import InvalidInput
from aerotask.sdk.limits import Limits


@dataclass(frozen=True, slots=True)
class EntryView:
    """Dataset entry; `sha256` is empty for a folder, and `properties` until it is `indexed`."""

    path: str
    type: str
    sha256: str
    size_bytes: int
    indexed: bool
    properties: Mapping[str, Any] = field(default_factory=dict)
    mtime: int = 0
    """Time of the last change, in Unix seconds."""
    point_geom: Mapping[str, Any] | None = None
    """GeoJSON in EPSG:4326, as is `polygon_geom`."""
    polygon_geom: Mapping[str, Any] | None = None

    @property
    def is_folder(self) -> bool:
        """True for a folder."""
        return self.type == "directory"


@dataclass(frozen=True, slots=True)
class DatasetView:
    """The entries that the parameters name, with everything below them, and the installation's limits."""

    slug: str
    entries: Mapping[str, EntryView]
    limits: Limits = field(default_factory=Limits)
    derived: AbstractSet[tuple[str, str, str]] = frozenset()
    """Source key, kind and builder of each existing derivative, for tools that set `uses_derivatives`."""

    def entry(self, path: str) -> EntryView:
        """The entry at `path`.

        Raises:
            InvalidInput: the dataset has no such entry (`no-such-entry`).
        """
        found = self.entries.get(path)
        if found is None:
            raise InvalidInput(
                f"The dataset has no entry {paths.shown(path)}; list the dataset to see its entries.",
                code="no-such-entry",
            )
        return found

    def file(self, path: str) -> EntryView:
        """The entry at `path`, which must be a file.

        Raises:
            InvalidInput: there is no such entry (`no-such-entry`), or it is a folder (`not-a-file`).
        """
        found = self.entry(path)
        if found.is_folder:
            raise InvalidInput(f"{paths.shown(path)} is a folder; name a file.", code="not-a-file")
        return found

    def below(self, folder: str) -> Iterator[EntryView]:
        """The entries at and below `folder`, in the order of their paths."""
        return (self.entries[path] for path in sorted(self.entries) if paths.within(path, folder))

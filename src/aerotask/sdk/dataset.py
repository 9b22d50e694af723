"""What a tool may know of a dataset before it runs: its entries as the index has them."""

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
    """One entry; `sha256` is empty for a folder, `properties` is empty until `indexed`."""

    path: str
    type: str
    sha256: str
    size_bytes: int
    indexed: bool
    properties: Mapping[str, Any] = field(default_factory=dict)
    mtime: int = 0
    """When it was last changed, in Unix seconds."""
    point_geom: Mapping[str, Any] | None = None
    """GeoJSON in EPSG:4326, as is `polygon_geom`."""
    polygon_geom: Mapping[str, Any] | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder rather than a file."""
        return self.type == "directory"


@dataclass(frozen=True, slots=True)
class DatasetView:
    """The entries that a tool's parameters name, and what lies below them; and what the installation allows."""

    slug: str
    entries: Mapping[str, EntryView]
    limits: Limits = field(default_factory=Limits)
    derived: AbstractSet[tuple[str, str, str]] = frozenset()
    """Source key, kind and builder of each derivative that there is, for tools that declare `uses_derivatives`."""

    def entry(self, path: str) -> EntryView:
        """The entry at `path`.

        Raises:
            InvalidInput: there is none (`no-such-entry`).
        """
        found = self.entries.get(path)
        if found is None:
            raise InvalidInput(
                f"The dataset has no entry {paths.shown(path)}; list it to see what there is.",
                code="no-such-entry",
            )
        return found

    def file(self, path: str) -> EntryView:
        """The entry at `path`, which must be a file.

        Raises:
            InvalidInput: there is none (`no-such-entry`), or it is a folder (`not-a-file`).
        """
        found = self.entry(path)
        if found.is_folder:
            raise InvalidInput(f"{paths.shown(path)} is a folder; name a file.", code="not-a-file")
        return found

    def below(self, folder: str) -> Iterator[EntryView]:
        """The entries at and below `folder`, in the order of their paths."""
        return (self.entries[path] for path in sorted(self.entries) if paths.within(path, folder))

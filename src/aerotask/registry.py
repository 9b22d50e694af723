"""Registry of tools: loads the entry-point group `aerotask.tools`, built-in and third-party alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from packaging.version import InvalidVersion, Version

from aerotask.domain.errors import InvalidInput
from aerotask.domain.paths import shown
from aerotask.domain.suggestions import hint
from aerotask.sdk import QuotaClass, Tool

GROUP = "aerotask.tools"
_ALIAS = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class BrokenTool:
    """Entry point that failed to load, with the reason; all other tools stay available."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Registry:
    """Tools of this installation, by id and version."""

    tools: Mapping[str, Mapping[str, Tool[Any]]]
    broken: tuple[BrokenTool, ...] = ()
    schemas: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """The JSON Schema of each tool's params, by id and version."""

    def schema(self, tool: Tool[Any]) -> Mapping[str, Any]:
        """The JSON Schema of the tool's params, built once because it takes milliseconds."""
        return self.schemas[tool.id, tool.version]

    def all(self) -> tuple[Tool[Any], ...]:
        """Every version of every tool, by id, the highest version first."""
        return tuple(
            tool
            for tool_id in sorted(self.tools)
            for tool in sorted(
                self.tools[tool_id].values(), key=lambda tool: Version(tool.version), reverse=True
            )
        )

    def get(self, tool_id: str, version: str | None = None) -> Tool[Any]:
        """The tool with that id, in the given or else the highest version.

        Raises:
            InvalidInput: there is no such tool or version (`unknown-tool`, `unknown-version`).
        """
        versions = self.tools.get(tool_id)
        if not versions:
            raise InvalidInput(
                f"There is no tool {shown(tool_id)}{hint(tool_id, self.tools)}; the tools are "
                f"{', '.join(sorted(self.tools))}.",
                code="unknown-tool",
            )
        if version is None:
            return versions[max(versions, key=Version)]
        if version not in versions:
            raise InvalidInput(
                f"Tool '{tool_id}' has no version {shown(version)}; its versions are {', '.join(sorted(versions))}.",
                code="unknown-version",
            )
        return versions[version]

    def ids_of_class(self, quota_class: QuotaClass | None) -> frozenset[str]:
        """The ids of the tools that share the quota class; none for None."""
        if quota_class is None:
            return frozenset()
        return frozenset(tool.id for tool in self.all() if tool.quota_class is quota_class)


def load_registry() -> Registry:
    """Load every registered tool; those that fail to load are listed in `broken`."""
    return registry_of(entry_points(group=GROUP))


def registry_of(points: Iterable[EntryPoint]) -> Registry:
    """The registry of the given entry points."""
    tools: dict[str, dict[str, Tool[Any]]] = {}
    schemas: dict[tuple[str, str], Mapping[str, Any]] = {}
    broken: list[BrokenTool] = []
    for point in points:
        try:
            tool = _load(point)
            schema = tool.params.model_json_schema(by_alias=True)
        # The edge to third-party code: no exception of a plug-in may take the platform down.
        except Exception as error:  # noqa: BLE001
            broken.append(BrokenTool(point.name, f"{type(error).__name__}: {error}"))
        else:
            tools.setdefault(tool.id, {})[tool.version] = tool
            schemas[tool.id, tool.version] = schema
    return Registry(tools, tuple(broken), schemas)


def _load(point: EntryPoint) -> Tool[Any]:
    loaded = point.load()
    if not (isinstance(loaded, type) and issubclass(loaded, Tool)):
        raise TypeError(f"{point.value} is not a subclass of aerotask.sdk.Tool")
    for attribute in ("id", "version", "title", "params"):
        if not hasattr(loaded, attribute):
            raise TypeError(f"{point.value} has no '{attribute}'")
    for alias in loaded.route_aliases:
        if not _ALIAS.fullmatch(alias):
            raise TypeError(f"{point.value} has a route alias {alias!r} that is no plain part of an address")
    try:
        Version(loaded.version)
    except InvalidVersion:
        raise TypeError(f"{point.value} has an unreadable version {loaded.version!r}") from None
    return loaded()

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.registry import GROUP, Registry, load_registry, registry_of
from aerotask.sdk import QuotaClass, Tool

HERE = "tests.test_registry"


def point(name: str, target: str) -> EntryPoint:
    return EntryPoint(name, target, GROUP)


def test_the_built_in_tools_come_in_like_anybodys() -> None:
    registry = load_registry()
    assert registry.broken == ()
    assert "raster-export" in registry.tools


def test_a_broken_plug_in_disables_itself_and_nothing_else() -> None:
    registry = registry_of(
        [
            point("raster-export", "aerotask.tools.raster_export:RasterExport"),
            point("absent", "no_such_module:Tool"),
            point("not-a-tool", f"{HERE}:point"),
        ]
    )
    assert set(registry.tools) == {"raster-export"}
    assert [broken.name for broken in registry.broken] == ["absent", "not-a-tool"]
    assert "ModuleNotFoundError" in registry.broken[0].reason
    assert "not a subclass" in registry.broken[1].reason


def test_the_schema_of_a_tools_params_is_made_once() -> None:
    registry = load_registry()
    tool = registry.get("raster-export")
    assert registry.schema(tool) == tool.params.model_json_schema(by_alias=True)
    assert registry.schema(tool) is registry.schema(tool)


def test_the_tools_of_a_quota_class_are_known_by_their_ids() -> None:
    registry = load_registry()
    assert registry.ids_of_class(QuotaClass.BULK) == {"bulk-download"}
    assert registry.ids_of_class(None) == frozenset()


def test_an_unknown_tool_or_version_is_refused_with_what_there_is() -> None:
    registry = load_registry()
    with pytest.raises(InvalidInput, match="raster-export") as unknown:
        registry.get("raster-exprot")
    assert unknown.value.code == "unknown-tool"
    with pytest.raises(InvalidInput, match="its versions are 1") as old:
        registry.get("raster-export", "0.1")
    assert old.value.code == "unknown-version"


def test_the_highest_version_is_chosen_by_number_not_by_text() -> None:
    tool = load_registry().get("raster-export")
    registry = Registry({"t": {"1.9": tool, "1.10": _renumbered(tool)}})
    assert registry.get("t").version == "1.10"


def _renumbered(tool: Tool[Any]) -> Tool[Any]:
    newer: Tool[Any] = type("Newer", (type(tool),), {"version": "1.10"})()
    return newer

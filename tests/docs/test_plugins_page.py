"""The page for plug-in authors: it covers every extension point, and its code runs."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import aerotask.sdk
from aerotask.sdk import Tool
from aerotask.sdk.tool import RENAMED

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
OLD_CLASSES = {"Review"}
HEADING = re.compile(r"^### (.*)$", re.MULTILINE)


def sections() -> dict[str, str]:
    """The sections of extension points by their headings."""
    parts = HEADING.split(PAGE)[1:]
    return {
        heading: re.split(r"^## ", text, flags=re.MULTILINE)[0]
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def named() -> set[str]:
    return {name for heading in sections() for name in re.findall(r"`([\w.]+)`", heading)}


def test_every_public_name_of_the_sdk_has_a_section() -> None:
    assert set(aerotask.sdk.__all__) - OLD_CLASSES - named() == set()


def test_every_member_of_tool_has_a_section() -> None:
    declared = {*Tool.__annotations__, *vars(Tool)}
    members = {name for name in declared if not name.startswith("_")} - set(RENAMED)
    assert {"check", "dry_run", "preview", "quota_class", "params"} <= members
    assert {f"Tool.{name}" for name in members} - named() == set()


def test_every_section_has_an_example() -> None:
    assert [heading for heading, text in sections().items() if "```python" not in text] == []


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are one module, in the order of the page."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    file = tmp_path / "plugins_page.py"
    file.write_text("\n".join(blocks), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("plugins_page", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "plugins_page", module)
    monkeypatch.chdir(tmp_path)
    spec.loader.exec_module(module)
    assert module.harness.dataset == Path("dataset")

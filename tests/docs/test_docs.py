"""Documentation checks: every setting, error code, audit action and tool has its entry."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from aerotask.config import Settings
from aerotask.domain.audit import AuditAction
from aerotask.registry import load_registry
from aerotask.sdk import Tool

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "aerotask"


def codes_in(tree: ast.AST) -> Iterator[str]:
    """Error codes that a module raises, declares or returns."""
    for node in ast.walk(tree):
        if (isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "default_code") or (
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "default_code"
        ):
            yield from constants([node.value])
        elif isinstance(node, ast.Call):
            yield from constants([kw.value for kw in node.keywords if kw.arg in {"code", "error_code"}])
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in {"Failure", "_told"}:
                yield from constants(node.args[:1])
            elif name == "problem":
                yield from constants(node.args[1:2])


def constants(nodes: Sequence[ast.expr | None]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def documented() -> set[str]:
    pages = [ROOT / "docs" / "errors.md", *(ROOT / "docs" / "tools").glob("*.md")]
    return {code for page in pages for code in re.findall(r"`([a-z-]+)`", page.read_text(encoding="utf-8"))}


def test_every_error_code_is_documented() -> None:
    codes = {
        code
        for module in SOURCE.rglob("*.py")
        for code in codes_in(ast.parse(module.read_text(encoding="utf-8")))
    }
    assert len(codes) > 50
    assert codes - documented() - {"error"} == set()


def settings() -> dict[str, str | None]:
    """The description of every setting, by the name of its variable without the prefix."""
    schema = Settings.model_json_schema()
    groups = {name: group["properties"] for name, group in schema["$defs"].items()}
    found: dict[str, str | None] = {}
    for name, described in schema["properties"].items():
        group = described.get("$ref", "").removeprefix("#/$defs/")
        for each, inner in groups[group].items() if group else [(name, described)]:
            assert each not in found, f"{each} is in two groups"
            found[each] = inner.get("description")
    return found


def test_every_setting_is_in_the_readmes_table() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `AEROTASK_([A-Z_]+)` \| [^|]+ \| (.+) \|$", readme, flags=re.MULTILINE))
    assert len(settings()) > 60
    assert rows == {name.upper(): " ".join((text or "").split()) for name, text in settings().items()}


def test_every_action_of_the_audit_log_is_documented() -> None:
    page = (ROOT / "docs" / "accounts.md").read_text()
    assert [action for action in AuditAction if f"`{action}`" not in page] == []


def test_the_readme_names_only_existing_settings() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = {name.lower() for name in re.findall(r"AEROTASK_([A-Z_]+[A-Z])", readme)}
    assert named - set(settings()) - {"domain"} == set()


@pytest.mark.parametrize("tool", load_registry().all(), ids=lambda tool: tool.id)
def test_every_tool_page_names_all_parameters(tool: Tool[Any]) -> None:
    page = (ROOT / "docs" / "tools" / f"{tool.id}.md").read_text(encoding="utf-8")
    schema = tool.params.model_json_schema(by_alias=True)
    assert [name for name in schema["properties"] if f"`{name}`" not in page] == []


def test_every_setting_and_parameter_has_a_description() -> None:
    assert [name for name, description in settings().items() if not description] == []
    for tool in load_registry().all():
        for name, described in tool.params.model_json_schema(by_alias=True)["properties"].items():
            assert described.get("description"), (tool.id, name)


def test_links_between_pages_resolve() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_page_names_a_package_mirror() -> None:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for file in files:
        assert not re.search(r"index-url|find-links|/simple/", file.read_text(encoding="utf-8")), file


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in folder.glob("[0-9]*.md")}
    assert set(re.findall(r"\]\(([0-9][^)]*)\)", index)) == pages

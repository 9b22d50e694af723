"""The platform names no tool: every tool could as well be a third-party one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from aerotask.registry import load_registry

SOURCE = Path(__file__).resolve().parents[2] / "src" / "aerotask"
IDS = sorted(load_registry().tools)
# An id anywhere in a text; one that is a common word as well, in quotes.
NAMED = re.compile("|".join(rf"(?<![\w-]){id_}(?![\w-])" if "-" in id_ else rf"'{id_}'" for id_ in IDS))
# The software that TIFF files name as their maker is part of their format.
ALLOWED = {
    ("raster/export/write.py", "Aerotask raster-export"),
    ("raster/merge/write.py", "Aerotask merge-multispectral"),
}


def texts(tree: ast.AST) -> Iterator[str]:
    """The string constants of a module, except docstrings."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_no_tool_id_stands_outside_of_the_tools() -> None:
    found = {
        (module.relative_to(SOURCE).as_posix(), text)
        for module in SOURCE.rglob("*.py")
        if SOURCE / "tools" not in module.parents
        for text in texts(ast.parse(module.read_text(encoding="utf-8")))
        if NAMED.search(text)
    }
    assert len(IDS) >= 7
    assert found == ALLOWED

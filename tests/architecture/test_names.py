"""One word has one meaning, docstrings begin with the thing, and no folder grows too wide to read."""

import ast
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "aerotask"

# Class names that stand twice in the source, each with the reason why that is right.
TWICE: dict[str, str] = {
    "NewApiKey": "the body of a request, and the key that the service returns for it",
}

# With one of these a docstring asks a riddle instead of naming the thing.
RIDDLES = {
    "how",
    "that",
    "what",
    "whatever",
    "when",
    "where",
    "wherever",
    "which",
    "who",
    "whoever",
    "whose",
    "why",
}
MAX_MODULES = 16


def modules() -> dict[str, ast.Module]:
    """Every module of the source by its path below `src/aerotask`."""
    return {
        str(path.relative_to(SOURCE)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
    }


def first_word(docstring: str) -> str:
    return docstring.split(maxsplit=1)[0].strip("`*.,:;'\"").lower() if docstring.strip() else ""


def test_a_class_name_stands_once_unless_a_reason_is_given() -> None:
    names = Counter(
        node.name for tree in modules().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 400
    assert {name for name, times in names.items() if times > 1} == set(TWICE)


def test_every_module_has_a_docstring_that_begins_with_the_thing() -> None:
    begins = {path: first_word(ast.get_docstring(tree) or "") for path, tree in modules().items()}
    assert {path for path, word in begins.items() if not word or word in RIDDLES} == set()


def test_every_docstring_begins_with_the_thing() -> None:
    riddles = [
        f"{path}:{node.body[0].lineno}"
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and first_word(ast.get_docstring(node) or "") in RIDDLES
    ]
    assert riddles == []


def test_no_folder_is_too_wide_to_read() -> None:
    widths = Counter(
        path.parent for path in SOURCE.rglob("*.py") if path.name not in {"__init__.py", "__main__.py"}
    )
    assert {str(folder): width for folder, width in widths.items() if width > MAX_MODULES} == {}

"""Suggestions for misspelled names."""

import pytest

from aerotask.domain.suggestions import hint, nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("raster-exprt", ["raster-export", "build"], "raster-export"),
        ("TOOL_ID", ["toolId", "take"], "toolId"),
        ("nam", ["name", "slug"], "name"),
        ("limit", ["since", "take"], None),
        ("anything", [], None),
        ("x" * 100_000, ["x"], None),
    ],
)
def test_the_nearest_name_is_suggested(name: str, known: list[str], expected: str | None) -> None:
    assert nearest(name, known) == expected


def test_a_hint_is_empty_where_nothing_is_like_the_name() -> None:
    assert hint("buidl", ["build"]) == " (did you mean 'build'?)"
    assert hint("cook", ["build"]) == ""

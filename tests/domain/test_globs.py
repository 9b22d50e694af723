import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerotask.domain.errors import InvalidInput
from aerotask.domain.globs import glob, is_glob


def matches(pattern: str, path: str) -> bool:
    return re.search(glob(pattern).regex, path, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.tif", ["a.tif", "x/y/b.tif", ".tif"], ["a.tiff", "a.tif/b", "atif"]),
        ("photos/*.jpg", ["photos/a.jpg"], ["photos/x/a.jpg", "a.jpg", "more/photos/a.jpg"]),
        ("photos/**", ["photos/a.jpg", "photos/x/a.jpg"], ["photos", "photo/a"]),
        ("**/a.jpg", ["a.jpg", "x/a.jpg", "x/y/a.jpg"], ["ba.jpg", "x/ba.jpg"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("DJI_00??.JPG", ["DJI_0018.JPG", "f/DJI_0018.JPG"], ["DJI_018.JPG", "DJI_00/8.JPG"]),
        ("a+(b).[c]$", ["a+(b).[c]$"], ["aa(b).[c]$", "a+(b)xc$"]),
    ],
)
def test_a_pattern_matches_these_paths_and_not_others(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    assert [path for path in matching + others if matches(pattern, path)] == matching


@given(st.text(st.characters(exclude_characters="*?/", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_pattern_without_wildcards_matches_itself(text: str) -> None:
    assert not is_glob(text)
    assert matches(f"{text}/*", f"{text}/x")
    assert glob(f"{text}/*").prefix == f"{text}/"


@pytest.mark.parametrize("pattern", ["*" * 17, "a" * 257])
def test_a_pattern_that_could_take_long_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        glob(pattern)
    assert refused.value.code == "invalid-pattern"

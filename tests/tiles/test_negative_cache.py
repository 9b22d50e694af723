"""Negative cache of failed images, with a fake clock."""

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.tiles.negative_cache import NegativeCache

FAILURE = InvalidInput("It crashed.", code="drawing-crashed")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def is_refused(failures: NegativeCache, digest: str, blob_key: str) -> bool:
    try:
        failures.raise_if_failed(digest, [blob_key])
    except InvalidInput:
        return True
    return False


def test_a_failed_image_is_refused_for_a_minute() -> None:
    clock = Clock()
    failures = NegativeCache(clock)
    failures.add("tile", ["file"], FAILURE)
    with pytest.raises(InvalidInput, match="It crashed"):
        failures.raise_if_failed("tile", ["file"])
    clock.now_s += 59
    assert is_refused(failures, "tile", "file")
    clock.now_s += 1
    assert not is_refused(failures, "tile", "file")


def test_a_file_is_refused_after_its_third_failure() -> None:
    clock = Clock()
    failures = NegativeCache(clock)
    for tile in ("a", "b"):
        failures.add(tile, ["file"], FAILURE)
        assert not is_refused(failures, "c", "file")
    failures.add("c", ["file"], FAILURE)
    assert is_refused(failures, "d", "file")
    assert not is_refused(failures, "d", "other")
    clock.now_s += 60
    assert not is_refused(failures, "d", "file")

"""Pictures that failed, with a clock that the test sets."""

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.tiles.negative_cache import NegativeCache

REFUSAL = InvalidInput("It crashed.", code="drawing-crashed")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def refused(failures: NegativeCache, digest: str, content: str) -> bool:
    try:
        failures.refuse(digest, [content])
    except InvalidInput:
        return True
    return False


def test_what_failed_is_refused_for_a_minute() -> None:
    clock = Clock()
    failures = NegativeCache(clock)
    failures.remember("tile", ["file"], REFUSAL)
    with pytest.raises(InvalidInput, match="It crashed"):
        failures.refuse("tile", ["file"])
    clock.now_s += 59
    assert refused(failures, "tile", "file")
    clock.now_s += 1
    assert not refused(failures, "tile", "file")


def test_a_file_is_refused_after_its_third_failure() -> None:
    clock = Clock()
    failures = NegativeCache(clock)
    for tile in ("a", "b"):
        failures.remember(tile, ["file"], REFUSAL)
        assert not refused(failures, "c", "file")
    failures.remember("c", ["file"], REFUSAL)
    assert refused(failures, "d", "file")
    assert not refused(failures, "d", "other")
    clock.now_s += 60
    assert not refused(failures, "d", "file")

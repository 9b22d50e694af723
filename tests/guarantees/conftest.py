"""Stacks whose invariants are checked after every test, and the seed of random choices."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import StackFactory
from tests.guarantees.invariants import assert_upheld
from tests.support.world import World

Figures = Callable[[str, Sequence[float]], None]


@pytest.fixture(scope="session")
def make_stack(make_stack: StackFactory) -> StackFactory:
    """Creates stacks and checks their invariants at the end of the test."""

    @contextmanager
    def make(*, workers: int = 1, **settings: str) -> Iterator[World]:
        with make_stack(workers=workers, **settings) as world:
            yield world
            assert_upheld(world)

    return make


@pytest.fixture(scope="package")
def troubled_world(make_stack: StackFactory) -> Iterator[World]:
    """The stack that most of these tests share; tests of other folders, which edit rows by hand, don't use it."""
    with make_stack(workers=2) as made:
        yield made


@pytest.fixture
def world(troubled_world: World) -> Iterator[World]:
    """The shared stack; its invariants hold after each test."""
    yield troubled_world
    assert_upheld(troubled_world)


@pytest.fixture
def rng() -> random.Random:
    """Random generator of a test, seeded by `AEROTASK_TEST_SEED` or by a printed seed."""
    seed = int(os.environ.get("AEROTASK_TEST_SEED") or random.SystemRandom().randrange(10**9))
    print(f"AEROTASK_TEST_SEED={seed}")  # noqa: T201  pytest shows it with a failure
    return random.Random(seed)


@pytest.fixture
def figures() -> Figures:
    """Prints the median and the maximum of a test's measurements."""

    def note(what: str, values: Sequence[float]) -> None:
        ordered = sorted(values)
        line = f"{what}: n={len(ordered)} p50={ordered[len(ordered) // 2]:.3f} max={ordered[-1]:.3f}"
        print(line)  # noqa: T201  shown by -s and -rP
        if "AEROTASK_TEST_FIGURES" in os.environ:
            with Path(os.environ["AEROTASK_TEST_FIGURES"]).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")

    return note


@pytest.fixture(scope="session")
def kills() -> int:
    """The number of workers to kill at random moments."""
    return int(os.environ.get("AEROTASK_TEST_KILLS") or 8)


@pytest.fixture(scope="session")
def restarts() -> int:
    """The number of processes to restart under load."""
    return int(os.environ.get("AEROTASK_TEST_RESTARTS") or 5)


@pytest.fixture(scope="session")
def cancels() -> int:
    """The number of cancels that coincide with the end of their task."""
    return int(os.environ.get("AEROTASK_TEST_CANCELS") or 60)

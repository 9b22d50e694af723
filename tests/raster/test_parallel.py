"""Work spread over threads, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from aerotask.raster.parallel import Worker, run_in_threads
from aerotask.sdk import Cancelled


def plain(function: Callable[[int], int]) -> Worker[int, int]:
    @contextmanager
    def worker() -> Iterator[Callable[[int], int]]:
        yield function

    return worker


def raster_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("raster-")]


def test_every_item_is_processed_once() -> None:
    results: list[int] = []
    run_in_threads(range(1000), threads=4, worker=plain(lambda item: item * 2), on_result=results.append)
    assert sorted(results) == list(range(0, 2000, 2))


def test_an_empty_iterable_is_allowed() -> None:
    results: list[int] = []
    run_in_threads([], threads=3, worker=plain(lambda item: item), on_result=results.append)
    assert results == []


def test_each_thread_has_its_own_worker_and_closes_it() -> None:
    opened, closed = [], []
    all_there = threading.Barrier(3, timeout=20)

    @contextmanager
    def worker() -> Iterator[Callable[[int], int]]:
        opened.append(threading.get_ident())
        all_there.wait()
        yield lambda item: item
        closed.append(threading.get_ident())

    run_in_threads(range(10), threads=3, worker=worker, on_result=lambda _: None)
    assert len(set(opened)) == 3
    assert sorted(opened) == sorted(closed)


def test_an_error_in_a_thread_is_raised_here_and_stops_the_others() -> None:
    def fail_at_ten(item: int) -> int:
        if item == 10:
            raise ValueError("ten")
        return item

    with pytest.raises(ValueError, match="ten"):
        run_in_threads(count(), threads=4, worker=plain(fail_at_ten), on_result=lambda _: None)
    assert raster_threads() == []


def test_an_error_on_opening_is_raised_here() -> None:
    @contextmanager
    def worker() -> Iterator[Callable[[int], int]]:
        if threading.current_thread() is not threading.main_thread():
            raise OSError("no such file")
        yield lambda item: item

    with pytest.raises(OSError, match="no such file"):
        run_in_threads(count(), threads=2, worker=worker, on_result=lambda _: None)


def test_cancelling_from_the_results_stops_the_threads() -> None:
    def cancel_at_five(item: int) -> None:
        if item == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_in_threads(count(), threads=2, worker=plain(lambda item: item), on_result=cancel_at_five)
    assert raster_threads() == []

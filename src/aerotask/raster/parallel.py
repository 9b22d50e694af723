"""Spreads work over threads that each have their own file handles, and stops all of them at the first error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Worker = Callable[[], AbstractContextManager[Callable[[T], R]]]
"""Makes, in the thread that will use it, the function that does one item; its context ends with the thread."""

MAX_THREADS = 8
"""More threads would cost more memory than a child process is allowed."""


@dataclass(frozen=True, slots=True)
class _Result(Generic[R]):
    value: R


class _Ended:
    pass


def run_in_threads(
    items: Iterable[T], *, threads: int, worker: Worker[T, R], on_result: Callable[[R], None]
) -> None:
    """Do every item in one of `threads` threads; `on_result` is called in this thread as the results come.

    Whatever is raised in a thread, by `on_result`, or here by a signal stops all threads after the item that each
    is at, and is raised from here once they have ended.
    """
    shared = _Shared(iter(items))
    results: SimpleQueue[_Result[R] | BaseException | _Ended] = SimpleQueue()
    crew = [
        threading.Thread(target=_work, args=(shared, worker, results), name=f"raster-{number}")
        for number in range(max(1, min(threads, MAX_THREADS)))
    ]
    try:
        for thread in crew:
            thread.start()
        _collect(results, len(crew), on_result)
    finally:
        shared.stop()
        for thread in crew:
            if thread.ident is not None:
                thread.join()


class _Shared(Generic[T]):
    """An iterator that several threads take from, until it is stopped."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def __iter__(self) -> Iterator[T]:
        while not self._stopped.is_set():
            with self._lock:
                try:
                    item = next(self._items)
                except StopIteration:
                    return
            yield item


def _work(
    shared: _Shared[T], worker: Worker[T, R], results: SimpleQueue[_Result[R] | BaseException | _Ended]
) -> None:
    try:
        with worker() as do:
            for item in shared:
                results.put(_Result(do(item)))
    # The thread's edge: whatever it is, it is raised again where the threads were started.
    except BaseException as error:  # noqa: BLE001
        results.put(error)
    else:
        results.put(_Ended())


def _collect(
    results: SimpleQueue[_Result[R] | BaseException | _Ended], running: int, on_result: Callable[[R], None]
) -> None:
    while running:
        found = results.get()
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, _Result):
            on_result(found.value)
        else:
            running -= 1

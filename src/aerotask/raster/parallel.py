"""Worker threads with file handles of their own; the first error stops all of them."""

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
"""Creates the function that processes one item, in the thread that uses it; its context ends with the thread."""

MAX_THREADS = 8
"""More threads would exceed the memory limit of a child process."""


@dataclass(frozen=True, slots=True)
class _Result(Generic[R]):
    value: R


class _Ended:
    pass


def run_in_threads(
    items: Iterable[T], *, threads: int, worker: Worker[T, R], on_result: Callable[[R], None]
) -> None:
    """Process every item in one of `threads` threads; `on_result` is called in the calling thread for each result.

    An exception in a thread, in `on_result`, or from a signal stops all threads after their current items and is
    raised here once they have ended.
    """
    shared = _Shared(iter(items))
    results: SimpleQueue[_Result[R] | BaseException | _Ended] = SimpleQueue()
    workers = [
        threading.Thread(target=_work, args=(shared, worker, results), name=f"raster-{number}")
        for number in range(max(1, min(threads, MAX_THREADS)))
    ]
    try:
        for thread in workers:
            thread.start()
        _collect(results, len(workers), on_result)
    finally:
        shared.stop()
        for thread in workers:
            if thread.ident is not None:
                thread.join()


class _Shared(Generic[T]):
    """Iterator shared by several threads, until it is stopped."""

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
        with worker() as process:
            for item in shared:
                results.put(_Result(process(item)))
    # The thread's edge: the exception is raised again in the thread that started this one.
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

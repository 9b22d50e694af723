"""Numbers in lines of text, parsed by numpy many lines at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 8 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024


def chunks_of_lines(file: BinaryIO) -> Iterator[bytes]:
    """Chunks of whole lines that each end with a line feed; a backslash at a line's end continues it.

    Raises:
        ValueError: a line is longer than 16 MiB.
    """
    rest = b""
    while chunk := file.read(CHUNK_BYTES):
        # A last byte may be half of a line end or of a continuation.
        held = chunk[-1:] if chunk[-1:] in {b"\r", b"\\"} else b""
        text = rest + chunk[: len(chunk) - len(held)]
        if b"\r" in text or b"\\" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\\\n", b"  ")
        cut = text.rfind(b"\n") + 1
        rest = text[cut:] + held
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError("a line is longer than 16 MiB")
        if cut:
            yield text[:cut]
    if rest:
        yield rest.replace(b"\r", b"\n") + b"\n"


def line_starts(text: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Offsets of the lines of a text that ends with a line feed."""
    ends = np.flatnonzero(text == 10)
    return np.concatenate([[0], ends[:-1] + 1])


def select_lines(
    text: NDArray[np.uint8], starts: NDArray[np.int64], chosen: NDArray[np.int64], *, keyword_bytes: int
) -> NDArray[np.uint8]:
    """The chosen lines of the text, with spaces instead of their first bytes."""
    all_ends = np.append(starts[1:], len(text))
    first, ends = starts[chosen], all_ends[chosen]
    steps = np.zeros(len(text) + 1, np.int8)
    steps[first] += 1
    steps[ends] -= 1
    lines: NDArray[np.uint8] = text[np.cumsum(steps[:-1], dtype=np.int8).astype(bool)]
    new_starts = np.cumsum(ends - first) - (ends - first)
    for offset in range(keyword_bytes):
        lines[new_starts + offset] = 32
    return lines


def token_starts(text: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a word begins at each byte."""
    is_space = text <= 32
    follows_space = np.concatenate([[True], is_space[:-1]])
    begins: NDArray[np.bool_] = ~is_space & follows_space
    return begins


def counts_per_line(text: NDArray[np.uint8], begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of words in each line."""
    return np.add.reduceat(begins, line_starts(text), dtype=np.int64)


def parse_numbers(text: bytes, count: int, dtype: type) -> NDArray[Any]:
    """The numbers in the text, which must be `count`.

    Raises:
        ValueError: it holds something else, or another number of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            numbers: NDArray[Any] = np.fromstring(text, dtype=dtype, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError("text where a number should be") from error
    if len(numbers) != count:
        raise ValueError("text where a number should be")
    return numbers

"""Our DEFLATE streams are readable by zlib and never exceed the ratio."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aerotask.archives.zip.deflate import Deflater, deflated

MIB = 1024 * 1024
CONTENTS = st.lists(
    st.one_of(
        st.binary(max_size=2000),
        st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 200_000)).map(
            lambda repeated: repeated[0] * repeated[1]
        ),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=CONTENTS, max_ratio=st.integers(1, 200))
def test_every_content_survives_a_round_trip_and_never_shrinks_too_much(
    pieces: list[bytes], max_ratio: int
) -> None:
    packer, content = Deflater(max_ratio), b"".join(pieces)
    streamed = b"".join([*(packer.feed(piece) for piece in pieces), packer.end()])
    for stream in (streamed, deflated(content, max_ratio)):
        assert zlib.decompress(stream, -15) == content
        # Rounded down for each piece.
        assert len(stream) * max_ratio >= len(content) - len(pieces) * max_ratio


def test_only_contents_that_shrink_too_much_are_padded() -> None:
    assert 4 * MIB // 50 < len(deflated(bytes(4 * MIB))) < 4 * MIB // 40
    text = b"".join(b"line %d\n" % number for number in range(100_000))
    packer = Deflater()
    streamed = packer.feed(text) + packer.end()
    assert len(deflated(text)) <= len(streamed) < len(deflated(text)) + 20


@pytest.mark.parametrize("size", [0, 1, 49, 50, 65_535 * 3, 65_535 * 3 + 1])
def test_a_ratio_of_one_stores(size: int) -> None:
    noise = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    packer = Deflater(1)
    streamed = packer.feed(noise) + packer.end()
    assert (zlib.decompress(streamed, -15), len(streamed) >= size) == (noise, True)

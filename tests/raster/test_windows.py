"""Windows and units, planned without files."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from aerotask.raster.windows import UNIT_BYTES, Shape, grid_shape, shape_of, tiles_within, unit_shape, windows

shapes = st.tuples(st.integers(1, 60), st.integers(1, 60))
steps = st.tuples(st.integers(1, 70), st.integers(1, 70))


def test_windows_at_the_edges_are_smaller() -> None:
    assert list(windows((5, 7), (4, 4))) == [
        (slice(0, 4), slice(0, 4)),
        (slice(0, 4), slice(4, 7)),
        (slice(4, 5), slice(0, 4)),
        (slice(4, 5), slice(4, 7)),
    ]


@settings(max_examples=40, deadline=None)
@given(shapes, steps)
def test_windows_cover_the_raster_once(shape: Shape, step: Shape) -> None:
    visits = np.zeros(shape, np.uint8)
    for window in windows(shape, step):
        assert all(0 < side <= most for side, most in zip(shape_of(window), step, strict=True))
        visits[window] += 1
    assert (visits == 1).all()


@settings(max_examples=40, deadline=None)
@given(shapes, steps)
def test_the_grid_counts_the_windows(shape: Shape, step: Shape) -> None:
    down, across = grid_shape(shape, step)
    assert down * across == len(list(windows(shape, step)))


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 40), st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_the_tiles_of_all_units_are_the_tiles_of_the_raster(shape: Shape, tile: int, tiles: Shape) -> None:
    tile_yx = (tile, tile)
    found = [
        item
        for unit in windows(shape, (tile * tiles[0], tile * tiles[1]))
        for item in tiles_within(unit, tile_yx)
    ]
    assert sorted(found, key=lambda item: item[0]) == [
        ((window[0].start // tile, window[1].start // tile), window) for window in windows(shape, tile_yx)
    ]


def test_a_unit_is_one_tile_if_blocks_are_tiles() -> None:
    assert unit_shape((10_000, 10_000), tile_yx=(512, 512), block_yx=(512, 512), bytes_per_px=4) == (512, 512)


def test_small_blocks_fill_a_tile_and_large_ones_make_a_unit_of_several() -> None:
    plan = {"tile_yx": (512, 512), "bytes_per_px": 4}
    assert unit_shape((10_000, 10_000), block_yx=(256, 256), **plan) == (512, 512)  # type: ignore[arg-type]
    assert unit_shape((10_000, 10_000), block_yx=(1024, 1024), **plan) == (1024, 1024)  # type: ignore[arg-type]


def test_strips_are_read_at_full_width_while_they_fit() -> None:
    assert unit_shape((9000, 9000), tile_yx=(512, 512), block_yx=(1, 9000), bytes_per_px=4) == (512, 9216)


def test_strips_too_wide_for_the_memory_are_read_in_parts() -> None:
    rows, cols = unit_shape((9000, 100_000), tile_yx=(512, 512), block_yx=(1, 100_000), bytes_per_px=8)
    assert (rows, cols) == (512, 6144)
    assert rows * cols * 8 <= UNIT_BYTES


def test_a_unit_is_at_least_one_tile() -> None:
    assert unit_shape((9000, 9000), tile_yx=(512, 512), block_yx=(1, 9000), bytes_per_px=1000) == (512, 512)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 8), steps, st.integers(1, 10_000))
def test_a_unit_is_always_whole_tiles(shape: Shape, sixteenths: int, block: Shape, bytes_per_px: int) -> None:
    tile = 16 * sixteenths
    rows, cols = unit_shape(shape, tile_yx=(tile, tile), block_yx=block, bytes_per_px=bytes_per_px)
    assert rows % tile == cols % tile == 0
    assert rows > 0
    assert cols > 0

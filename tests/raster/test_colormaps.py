"""Colormaps by name."""

from __future__ import annotations

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.raster.colormaps import colormap_names, colours_of, known_name


def colour(name: str, entry: int) -> tuple[int, ...]:
    return tuple(colours_of(name)[3 * entry : 3 * entry + 3])


@pytest.mark.parametrize(
    ("name", "first", "at_51", "last"),
    [
        ("rdylgn", (215, 48, 39), (245, 148, 85), (26, 152, 80)),
        ("spectral", (158, 1, 66), (234, 139, 90), (94, 79, 162)),
        ("bugn", (247, 252, 253), (191, 231, 231), (0, 68, 27)),
        ("ironbow", (0, 0, 0), (87, 15, 106), (255, 255, 255)),
        ("arctic", (0, 0, 64), (0, 80, 172), (255, 255, 255)),
        ("lava", (0, 0, 0), (102, 0, 0), (255, 255, 200)),
        ("terrain", (51, 51, 153), (0, 180, 180), (255, 255, 255)),
        ("rainbow", (150, 0, 90), (0, 28, 210), (200, 0, 0)),
        ("discrete_ndvi", (139, 0, 0), (255, 69, 0), (0, 100, 0)),
        ("grayscale", (0, 0, 0), (51, 51, 51), (255, 255, 255)),
        ("greys", (255, 255, 255), (204, 204, 204), (0, 0, 0)),
        ("whitehot", (0, 0, 0), (51, 51, 51), (255, 255, 255)),
        ("blackhot", (255, 255, 255), (204, 204, 204), (0, 0, 0)),
    ],
)
def test_own_colormaps_join_their_stops_and_truncate(
    name: str, first: tuple[int, ...], at_51: tuple[int, ...], last: tuple[int, ...]
) -> None:
    assert (colour(name, 0), colour(name, 51), colour(name, 255)) == (first, at_51, last)


def test_grayscale_has_every_grey_once() -> None:
    assert colours_of("grayscale") == bytes(level for level in range(256) for _ in range(3))


def test_discrete_ndvi_changes_at_every_fifth() -> None:
    changes = [
        entry
        for entry in range(1, 256)
        if colour("discrete_ndvi", entry) != colour("discrete_ndvi", entry - 1)
    ]
    assert changes == [51, 102, 153, 204]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("viridis", (68, 1, 84), (253, 231, 36)),
        ("plasma", (12, 7, 134), (239, 248, 33)),
        ("inferno", (0, 0, 3), (252, 254, 164)),
        ("magma", (0, 0, 3), (251, 252, 191)),
    ],
)
def test_published_colormaps_equal_the_published_ones(
    name: str, first: tuple[int, ...], last: tuple[int, ...]
) -> None:
    assert (colour(name, 0), colour(name, 255)) == (first, last)


def test_every_colormap_has_256_colours() -> None:
    assert {len(colours_of(name)) for name in colormap_names()} == {768}
    assert len(colormap_names()) == 218


def test_names_are_found_in_any_case() -> None:
    assert (known_name("Viridis"), known_name("NONE"), known_name("RdYlGn_r")) == (
        "viridis",
        "none",
        "rdylgn_r",
    )


def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        InvalidInput,
        match=r"There is no colormap 'rdylgreen' \(did you mean 'rdylgn'\?\)\. Choose none, rdylgn, ",
    ) as caught:
        known_name("rdylgreen")
    assert caught.value.code == "unknown-colormap"


def test_published_colours_are_those_of_rio_tiler() -> None:
    registry = pytest.importorskip("rio_tiler.colormap", reason="rio-tiler isn't installed here").cmap
    own = {"rdylgn", "spectral", "bugn", "terrain", "rainbow", "greys"}
    for name in set(registry.list()) - own:
        expected = bytes(channel for entry in range(256) for channel in registry.get(name)[entry][:3])
        assert colours_of(name) == expected, name
    assert set(registry.list()) <= set(colormap_names())

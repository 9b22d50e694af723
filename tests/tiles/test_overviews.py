"""Overview selection and read cost."""

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.raster.profile import BandProfile, RasterProfile
from aerotask.tiles.overviews import (
    TILE_BYTES,
    TILE_PX,
    OverviewLevel,
    affordable_level,
    estimate_read_bytes,
    lowest_zoom,
    select_level,
    tile_pixel_m,
)


def profile(side: int, *, overviews: tuple[int, ...] = (), bands: int = 4) -> RasterProfile:
    return RasterProfile(
        width=side,
        height=side,
        bands=(BandProfile("uint16", None, "undefined", None),) * bands,
        crs="EPSG:3857",
        geotransform=(0, 1, 0, 0, 0, -1),
        block_size=(512, 512),
        overview_sizes=tuple((side // factor, side // factor) for factor in overviews),
        metadata_text="",
    )


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.5, OverviewLevel(None, 0.5)),
        (1.0, OverviewLevel(None, 1.0)),
        (1.4, OverviewLevel(None, 1.4)),
        (1.5, OverviewLevel(0, 0.75)),
        (4.0, OverviewLevel(1, 1.0)),
        (64.0, OverviewLevel(2, 8.0)),
    ],
)
def test_the_level_with_the_closest_resolution_is_selected(ratio: float, expected: OverviewLevel) -> None:
    assert select_level(profile(4096, overviews=(2, 4, 8)), ratio) == expected


def test_the_read_cost_never_exceeds_the_level_itself() -> None:
    assert estimate_read_bytes(profile(1000), OverviewLevel(None, 1.0), [1, 2], 100) == 100 * 2 * 2
    assert (
        estimate_read_bytes(profile(1000), OverviewLevel(None, 1000.0), [1, 2], 65536) == 1000 * 1000 * 2 * 2
    )


def test_an_image_that_is_too_expensive_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        affordable_level(profile(20_000), 40.0, [1, 2, 3], TILE_PX**2, max_bytes=TILE_BYTES)
    assert refused.value.code == "build-first"


def test_the_lowest_zoom_is_the_first_whose_tiles_are_affordable() -> None:
    bare, bands = profile(20_000), [1, 2, 3, 4]
    lowest = lowest_zoom(bare, tile_pixel_m(20), bands)
    # 2 bytes, 4 bands: 2^24 pixels are 128 MiB, so a tile of 256 may read 4096 pixels a side.
    assert lowest == 16
    assert lowest_zoom(profile(20_000, overviews=(2, 4, 8, 16, 32, 64)), tile_pixel_m(20), bands) == 0
    assert lowest_zoom(profile(1000), tile_pixel_m(20), bands) == 0

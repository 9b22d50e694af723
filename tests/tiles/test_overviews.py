"""Overview selection and read cost."""

import pytest

from aerotask.raster.profile import BandProfile, RasterProfile
from aerotask.tiles.overviews import OverviewLevel, estimate_read_bytes, select_level


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

"""Checks of bands before a merge: faults and warnings."""

from dataclasses import replace
from typing import Any

import pytest

from aerotask.domain.errors import InvalidInput
from aerotask.raster.merge.checks import BandFile, find_faults, find_warnings, raise_if_faulty
from aerotask.raster.profile import BandProfile, RasterProfile

NAN = float("nan")
FIRST = RasterProfile(
    width=640,
    height=480,
    bands=(BandProfile("uint16", None, "gray", 0),),
    crs="EPSG:32611",
    geotransform=(282500.0, 0.05, 0.0, 4050500.0, 0.0, -0.05),
    block_size=(256, 256),
    overview_sizes=(),
    metadata_text="",
)


def band(**changes: Any) -> tuple[BandProfile, ...]:
    return (replace(FIRST.bands[0], **changes),)


Grid = tuple[float, float, float, float, float, float]


def grid(
    *,
    x: float = 282500.0,
    width: float = 0.05,
    row_rotation: float = 0.0,
    y: float = 4050500.0,
    column_rotation: float = 0.0,
    height: float = -0.05,
) -> Grid:
    """The first file's grid with the given changes."""
    return x, width, row_rotation, y, column_rotation, height


def pair(profile: RasterProfile) -> list[BandFile]:
    return [BandFile("a.tif", FIRST), BandFile("b.tif", profile)]


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"bands": FIRST.bands * 2}, "not-single-band", "2 bands (gray, gray)"),
        ({"bands": band(colour="palette")}, "palette-image", "palette indices"),
        ({"width": 641}, "size-mismatch", "is 641 × 480 pixels, the first file 640 × 480"),
        ({"bands": band(dtype="uint8")}, "type-mismatch", "uint8, the first file uint16"),
        ({"bands": band(nodata=None)}, "nodata-mismatch", "nodata value none, the first file 0"),
        ({"bands": band(nodata=NAN)}, "nodata-mismatch", "nodata value nan, the first file 0"),
        ({"crs": "EPSG:32612"}, "crs-mismatch", "is in EPSG:32612, the first file in EPSG:32611"),
        ({"crs": None}, "crs-mismatch", "is in no CRS"),
        ({"geotransform": None, "crs": None}, "mixed-georeference", "isn't georeferenced"),
        (
            {"geotransform": None, "crs": None, "georeferenced_by": "control-points"},
            "mixed-georeference",
            "is georeferenced by control points only: warp it to a grid first (gdalwarp -tps)",
        ),
        ({"geotransform": grid(row_rotation=0.001)}, "rotated-raster", "rotated or sheared"),
        ({"geotransform": grid(width=0.0, height=0.0, row_rotation=1.0)}, "rotated-raster", "rotated"),
        ({"geotransform": grid(width=0.0526)}, "pixel-size-mismatch", "pixels of 0.0526 × 0.05"),
        ({"geotransform": grid(height=0.05)}, "pixel-size-mismatch", "south up"),
        ({"geotransform": grid(x=282500.06)}, "origin-mismatch", "1.2 pixels from where"),
        ({"geotransform": grid(y=4050510.0)}, "origin-mismatch", "200.0 pixels from where"),
    ],
)
def test_a_fault_has_a_code_and_a_pointer(changes: dict[str, Any], code: str, says: str) -> None:
    (fault,) = find_faults(pair(replace(FIRST, **changes)))
    assert (fault.pointer, fault.code) == ("/params/paths/1", code)
    assert fault.message.startswith("'b.tif' ")
    assert says in fault.message


def test_complex_pixels_are_refused_in_the_first_file_too() -> None:
    profile = replace(FIRST, bands=band(dtype="complex64", nodata=None))
    faults = find_faults([BandFile("a.tif", profile), BandFile("b.tif", profile)])
    assert [(fault.pointer, fault.code) for fault in faults] == [
        ("/params/paths/0", "unsupported-pixel-type"),
        ("/params/paths/1", "unsupported-pixel-type"),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"geotransform": grid(width=0.0525, height=-0.0525)},
        {"geotransform": grid(x=282500.05, y=4050499.95)},
        {"block_size": (640, 1), "overview_sizes": ((320, 240),)},
    ],
)
def test_differences_within_the_limits_pass(changes: dict[str, Any]) -> None:
    assert find_faults(pair(replace(FIRST, **changes))) == []


def test_files_that_are_all_south_up_or_all_unreferenced_pass() -> None:
    grids: list[Grid | None] = [grid(height=0.05), None]
    for transform in grids:
        profile = replace(FIRST, geotransform=transform)
        assert find_faults([BandFile("a.tif", profile), BandFile("b.tif", profile)]) == []


def test_nan_is_the_same_nodata_as_nan() -> None:
    profile = replace(FIRST, bands=band(dtype="float32", nodata=NAN))
    assert find_faults([BandFile("a.tif", profile), BandFile("b.tif", profile)]) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"geotransform": grid(width=0.0507)}, "pixels 1.4% larger or smaller"),
        ({"geotransform": grid(x=282500.02)}, "begins 0.40 pixels"),
    ],
)
def test_larger_differences_cause_a_warning(changes: dict[str, Any], says: str) -> None:
    files = pair(replace(FIRST, **changes))
    (warning,) = find_warnings(files)
    assert find_faults(files) == []
    assert says in warning


def test_files_of_several_pages_cause_a_warning() -> None:
    assert find_warnings([BandFile("a.tif", replace(FIRST, pages=2)), BandFile("b.tif", FIRST)]) == [
        "'a.tif' has 2 pages; only the first is merged."
    ]


def test_small_differences_cause_no_warning() -> None:
    profile = replace(FIRST, geotransform=grid(width=0.0505, x=282500.004))
    assert find_warnings(pair(profile)) == []


def test_files_that_are_not_indexed_yet_are_left_out() -> None:
    files = [BandFile("new.tif", None), BandFile("a.tif", FIRST), BandFile("b.tif", replace(FIRST, width=1))]
    assert [fault.pointer for fault in find_faults(files)] == ["/params/paths/2"]


def test_faults_of_one_kind_keep_their_code_and_several_kinds_get_a_common_one() -> None:
    sizes = find_faults([*pair(replace(FIRST, width=1)), BandFile("c.tif", replace(FIRST, width=2))])
    with pytest.raises(InvalidInput) as one_kind:
        raise_if_faulty(sizes)
    with pytest.raises(InvalidInput) as several:
        raise_if_faulty([*sizes, *find_faults(pair(replace(FIRST, crs=None)))])
    assert (one_kind.value.code, len(one_kind.value.errors)) == ("size-mismatch", 2)
    assert (several.value.code, len(several.value.errors)) == ("bands-do-not-match", 3)
    assert all(fault.message in several.value.message for fault in several.value.errors)
    raise_if_faulty([])

from __future__ import annotations

from typing import Any

import pytest

from aerotask.raster.profile import BandProfile, RasterProfile
from aerotask.sdk import EntryView, InvalidInput
from aerotask.tools.indexed_raster import known_profile

PROFILE = RasterProfile(
    width=30,
    height=20,
    bands=(BandProfile("uint16", None, "gray", None),),
    crs="EPSG:32633",
    geotransform=None,
    block_size=(30, 20),
    overview_sizes=(),
    metadata_text="",
)


def entry(kind: str, properties: dict[str, Any], *, indexed: bool = True) -> EntryView:
    return EntryView("field.tif", kind, "0" * 64, 1000, indexed=indexed, properties=properties, mtime=0)


def test_the_profile_comes_from_the_index() -> None:
    assert known_profile(entry("geoRaster", PROFILE.to_properties()), "; name another.") == PROFILE


def test_of_an_entry_that_isnt_indexed_yet_nothing_is_known() -> None:
    assert known_profile(entry("generic", {}, indexed=False), "; name another.") is None


def test_a_picture_may_be_a_raster_although_the_index_has_no_profile_of_it() -> None:
    assert known_profile(entry("geoImage", {}), "; name another.") is None
    with pytest.raises(InvalidInput, match=r"^'field\.tif' is not a raster; name another\.$"):
        known_profile(entry("geoImage", {}), "; name another.", undescribed=frozenset())


def test_anything_else_is_refused_with_the_fault_that_the_index_found() -> None:
    damaged = entry("generic", {"indexError": {"message": "The file is damaged."}})
    with pytest.raises(InvalidInput, match=r"^The file is damaged\.$") as refused:
        known_profile(damaged, "; name another.")
    assert refused.value.code == "not-a-raster"

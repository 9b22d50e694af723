"""Derivative sources: side files of an entry, and the key of its derivatives."""

import pytest

from aerotask.derivatives.sources import check_complete, paths_beside, side_files, source_key
from aerotask.domain.errors import InvalidInput

SHP, SHX, DBF = "a" * 64, "b" * 64, "c" * 64


def test_the_key_of_an_entry_without_side_files_is_its_own_hash() -> None:
    assert source_key("a/b.tif", {"a/b.tif": SHP, "a/b.dbf": DBF}) == SHP


def test_the_key_covers_side_files_whatever_their_names() -> None:
    whole = source_key("a/roads.shp", {"a/roads.shp": SHP, "a/roads.shx": SHX, "a/roads.dbf": DBF})
    assert len(whole) == 64
    assert whole not in {SHP, SHX, DBF}
    assert whole == source_key(
        "WAYS.SHP", {"WAYS.SHP": SHP, "WAYS.SHX": SHX, "WAYS.DBF": DBF, "roads.prj": "d"}
    )
    assert whole != source_key("a/roads.shp", {"a/roads.shp": SHP, "a/roads.shx": SHX, "a/roads.dbf": SHP})
    assert whole != source_key("a/roads.shp", {"a/roads.shp": SHP, "a/roads.shx": SHX})


def test_a_shapefile_needs_its_index_and_its_attributes() -> None:
    assert "x/roads.shx" in paths_beside("x/roads.shp")
    assert paths_beside("x/cloud.laz") == ()
    check_complete("x/roads.shp", {"x/roads.SHX": SHX, "x/roads.dbf": DBF})
    check_complete("x/field.tif", {})
    with pytest.raises(InvalidInput, match=r"'roads\.shx'") as refused:
        check_complete("x/roads.shp", {"roads.shx": SHX, "x/roads.dbf": DBF})
    assert refused.value.code == "missing-side-file"
    with pytest.raises(InvalidInput, match=r"'roads\.dbf'"):
        check_complete("x/roads.shp", {"x/roads.shx": SHX})


PRESENT = [
    *(
        "odm/model.mtl",
        "odm/model.MTL",
        "odm/model_material0000_map_Kd.png",
        "odm/model.jpg",
        "odm/model 1.TIF",
    ),
    *("odm/other.png", "odm/model.las", "odm/model/a.png", "model.png", "odm/mode.png", "odm/Model.png"),
]


def test_a_meshs_textures_are_images_in_its_folder_whose_names_begin_with_its_name() -> None:
    assert side_files("odm/model.obj", PRESENT) == PRESENT[:5]
    assert side_files("odm/model.ply", PRESENT) == PRESENT[2:5]
    assert side_files("odm/model.glb", PRESENT) == []


def test_the_key_of_a_mesh_covers_its_textures_by_name_and_content() -> None:
    mesh, library = {"a.obj": "1" * 64}, {"a.mtl": "2" * 64}
    textured = {**mesh, **library, "a_0.png": "3" * 64, "a_1.png": "4" * 64}
    swapped = {**textured, "a_0.png": "4" * 64, "a_1.png": "3" * 64}
    keys = [source_key("a.obj", each) for each in (mesh, mesh | library, textured, swapped)]
    assert len(set(keys)) == 4
    assert source_key("a.obj", {**textured, "b.png": "5" * 64}) == keys[2]


def test_a_world_file_beside_a_raster_is_part_of_its_source() -> None:
    files = {"a/map.TIF": SHP, "a/map.tfw": SHX, "a/map.PRJ": DBF}
    assert set(files) <= {"a/map.TIF", *paths_beside("a/map.TIF")}
    assert source_key("a/map.TIF", files) != source_key("a/map.TIF", files | {"a/map.tfw": DBF})
    assert source_key("a/map.TIF", {"a/map.TIF": SHP, "a/other.tfw": SHX}) == SHP

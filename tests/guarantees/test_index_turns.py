"""Turns of the index: an organization that floods it, also with files that hang their reader, hardly delays another's upload."""

import time
from pathlib import Path

import numpy as np
from tests.guarantees.conftest import Figures
from tests.guarantees.invariants import sql
from tests.metadata.vectors import ENDLESS, ENDLESS_IN_GDAL, add_view, write_points
from tests.raster.rasters import write_raster
from tests.support.world import Dataset, World, eventually

WAITING = 20_000
UPLOADS = 10

# Copies of an entry that has been indexed, as if it had been uploaded so many times.
FLOOD = """
    INSERT INTO entries SELECT (jsonb_populate_record(e, jsonb_build_object(
        'id', gen_random_uuid(), 'path', 'copy-' || n, 'indexed', false, 'index_due_at', now()))).*
    FROM entries e, generate_series(1, $2) n WHERE e.id = $1::text::uuid
"""


def waiting(world: World, dataset: Dataset) -> int:
    """The number of the dataset's files that are not indexed."""
    query = "SELECT count(*) FROM entries e JOIN datasets d ON d.id = dataset_id WHERE d.slug = $1 AND NOT indexed"
    return int(sql(world, query, dataset.slug)[0][0])


def entry_id(world: World, dataset: Dataset) -> str:
    query = "SELECT e.id::text FROM entries e JOIN datasets d ON d.id = dataset_id WHERE d.slug = $1"
    return str(sql(world, query, dataset.slug)[0][0])


def seconds_until_indexed(dataset: Dataset, name: str, content: bytes | Path) -> float:
    began = time.monotonic()
    dataset.upload(name, content)
    return time.monotonic() - began


def test_an_upload_does_not_wait_for_the_many_files_of_another_organization(
    world: World, figures: Figures
) -> None:
    greedy, modest = world.dataset(), world.dataset()
    greedy.upload("notes.md", b"# Notes")
    sql(world, FLOOD, entry_id(world, greedy), WAITING)
    try:
        took_s = [seconds_until_indexed(modest, f"{number}.md", b"# Mine") for number in range(UPLOADS)]

        assert waiting(world, greedy) > WAITING // 4  # otherwise there was no queue
        figures(f"seconds until an upload is indexed beside {WAITING} waiting files of others", took_s)
    finally:
        sql(world, "DELETE FROM entries WHERE path LIKE 'copy-%'")


def test_files_that_hang_their_reader_hardly_delay_another_organizations_upload(
    world: World, figures: Figures, tmp_path: Path
) -> None:
    hostile, modest = world.dataset(), world.dataset()
    raster = write_raster(tmp_path / "field.tif", np.ones((1, 8, 8), "uint8"))
    endless = add_view(write_points(tmp_path / "endless.gpkg"), ENDLESS)
    hidden = add_view(write_points(tmp_path / "hidden.gpkg"), ENDLESS_IN_GDAL)
    for number in range(3):
        hostile.upload(f"endless-{number}.gpkg", endless, indexed=False)
        hostile.upload(f"hidden-{number}.gpkg", hidden, indexed=False)

    took_s = [seconds_until_indexed(modest, f"{number}.tif", raster) for number in range(5)]

    assert waiting(world, hostile) > 0  # otherwise they hung nothing
    figures("seconds until an upload is indexed beside files that hang their reader", took_s)
    eventually(lambda: waiting(world, hostile) == 0, timeout_s=120)
    codes = {path: hostile.entry(path)["properties"]["indexError"]["code"] for path in hostile.paths()}
    assert codes == {
        **{f"endless-{number}.gpkg": "vector-too-slow" for number in range(3)},
        **{f"hidden-{number}.gpkg": "index-given-up" for number in range(3)},
    }
    assert {hostile.entry(path)["type"] for path in codes} == {"vector"}

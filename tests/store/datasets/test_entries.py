from tests.support.rows import Rows

from aerotask.store.datasets import entries, entry_writes
from aerotask.store.datasets.entries import EntryContent


async def fill(rows: Rows, *paths: str) -> None:
    async with rows.db.begin() as connection:
        await entry_writes.add_folders(connection, rows.dataset_id, ["a", "a/b"])
        for path in paths:
            await entry_writes.put_file(
                connection, rows.dataset_id, path, EntryContent("key", "00", 1, "generic")
            )


async def find_named(rows: Rows, *paths: str) -> list[str]:
    async with rows.db.read() as connection:
        return [entry.path for entry in await entries.find_named(connection, rows.dataset_id, paths)]


async def test_named_files_are_found_in_path_order_without_missing_ones(rows: Rows) -> None:
    await fill(rows, "z.tif", "a/x.tif", "k.tif")
    assert await find_named(rows, "z.tif", "a/x.tif", "no.tif") == ["a/x.tif", "z.tif"]


async def test_a_named_folder_includes_everything_below_it_once(rows: Rows) -> None:
    await fill(rows, "z.tif", "a/x.tif", "a/b/y.tif", "ab.tif")
    assert await find_named(rows, "z.tif", "a", "a/b", "a/x.tif") == [
        "a",
        "a/b",
        "a/b/y.tif",
        "a/x.tif",
        "z.tif",
    ]


async def test_the_root_includes_everything(rows: Rows) -> None:
    await fill(rows, "z.tif", "a/x.tif")
    assert await find_named(rows, "") == ["a", "a/b", "a/x.tif", "z.tif"]

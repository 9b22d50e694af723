"""Downloads of one or several entries."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import sqlite3
import zipfile
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from tests.support.served import Served, served, until
from tests.support.storage import seen_unnamed
from tests.support.world import Dataset, World

from aerotask.config import Settings

FILES = {"a.txt": b"alpha", "photos/1.jpg": os.urandom(700_000), "photos/sub/2.jpg": b"2", "z.bin": b""}


@pytest.fixture(scope="module")
def dataset(world: World) -> Dataset:
    made = world.dataset(visibility="public")
    for path, content in FILES.items():
        made.upload(path, content, indexed=False)
    made.client.post(f"{made.address}/obj", files={"path": (None, b"empty")}).raise_for_status()
    return made


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_one_file_is_sent_as_it_is(dataset: Dataset) -> None:
    answer = dataset.client.get(
        f"{dataset.address}/download", params={"path": "photos/1.jpg"}, headers={"range": "bytes=0-9"}
    )
    assert (answer.status_code, answer.content) == (206, FILES["photos/1.jpg"][:10])
    assert answer.headers["content-type"] == "image/jpeg"


def test_several_files_are_sent_as_a_zip_of_known_length(dataset: Dataset) -> None:
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": ["photos", "a.txt"]})
    assert answer.headers["content-type"] == "application/zip"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert f'filename="{dataset.slug}.zip"' in answer.headers["content-disposition"]
    assert members(answer.content) == {
        "a.txt": FILES["a.txt"],
        "photos/": b"",
        "photos/1.jpg": FILES["photos/1.jpg"],
        "photos/sub/": b"",
        "photos/sub/2.jpg": b"2",
    }


def test_one_folder_gives_the_zip_its_name(dataset: Dataset) -> None:
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": "photos/sub"})
    assert 'filename="sub.zip"' in answer.headers["content-disposition"]


def test_without_paths_the_whole_dataset_is_sent(dataset: Dataset) -> None:
    found = members(dataset.client.get(f"{dataset.address}/download").content)
    files = {name: content for name, content in found.items() if not name.endswith("/")}
    assert files.pop(".ddb/dbase.sqlite")
    assert files == FILES
    assert "empty/" in found


def test_the_whole_dataset_is_sent_with_its_index(dataset: Dataset, tmp_path: Path) -> None:
    index = tmp_path / "dbase.sqlite"
    found = members(dataset.client.get(f"{dataset.address}/download").content)
    index.write_bytes(found[".ddb/dbase.sqlite"])
    with closing(sqlite3.connect(index)) as database:
        rows = dict(database.execute("SELECT path, hash FROM entries"))
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    assert rows == {"empty": "", "photos": "", "photos/sub": "", **hashes}
    some = dataset.client.get(f"{dataset.address}/download", params={"path": "photos"})
    assert not any(name.startswith(".ddb") for name in members(some.content))


def test_head_has_the_length_without_the_content(dataset: Dataset) -> None:
    whole = dataset.client.get(f"{dataset.address}/download")
    head = dataset.client.head(f"{dataset.address}/download")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_a_path_without_entry_is_404(dataset: Dataset) -> None:
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": ["a.txt", "none"]})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-entry")
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": "none"})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-entry")


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", ".ddb/x", "a\\..\\b", "%2e%2e/x", "a\0b", "zip://x", ""]
)
def test_a_path_out_of_the_dataset_is_400(dataset: Dataset, path: str) -> None:
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": ["a.txt", path]})
    code = "invalid-request" if "\0" in path else "invalid-path"  # no URL may contain NUL
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_a_caller_without_read_access_gets_no_download(world: World, dataset: Dataset) -> None:
    private = world.dataset()
    stranger = world.client(world.user())
    assert private.seen_by(stranger).client.get(f"{private.address}/download").status_code == 404
    assert world.client().get(f"{private.address}/download").status_code == 401
    assert world.client().get(f"{dataset.address}/download").status_code == 200


async def test_a_download_beyond_the_threshold_names_the_task_to_submit(settings: Settings) -> None:
    small = settings.model_copy(update={"bulk_download_async_threshold_bytes": 10})
    async with served(small) as api:
        here = "/orgs/acme/ds/acme"
        for path, content in {"a/1": b"12345", "a/2": b"67890"}.items():
            (await api.client.put(f"{here}/obj/{path}", content=content)).raise_for_status()
        assert (await api.client.get(f"{here}/download")).status_code == 200

        (await api.client.put(f"{here}/obj/b", content=b"x" * 100)).raise_for_status()
        everything = await api.client.get(f"{here}/download")
        assert (everything.status_code, everything.json()["code"]) == (413, "use-bulk-download")
        assert everything.json()["task"] == {"toolId": "bulk-download", "params": {"paths": None}}
        some = (await api.client.get(f"{here}/download", params={"path": ["a", "b"]})).json()
        assert some["task"] == {"toolId": "bulk-download", "params": {"paths": ["a", "b"]}}
        assert (await api.client.post(f"{here}/tasks", json=some["task"])).status_code == 202
        # One file is never a ZIP, however large.
        assert (await api.client.get(f"{here}/download", params={"path": "b"})).content == b"x" * 100


HERE = "/orgs/acme/ds/acme"
MIB = 1024 * 1024


async def test_files_removed_during_a_download_are_sent_in_full(settings: Settings) -> None:
    # The first file exceeds the socket buffers, so that the others aren't open yet when they are removed.
    files = {"a": os.urandom(24 * MIB), "b": b"removed", "c": b"replaced", "d": os.urandom(MIB)}
    async with served(settings) as api:
        for path, content in files.items():
            (await api.client.put(f"{HERE}/obj/{path}", content=content)).raise_for_status()
        async with api.client.stream("GET", f"{HERE}/download", params={"path": list(files)}) as answer:
            pieces = answer.aiter_raw()
            read = bytearray(await anext(pieces))
            (await api.client.delete(f"{HERE}/obj/b")).raise_for_status()
            (await api.client.put(f"{HERE}/obj/c", content=b"new")).raise_for_status()
            stored = [key for batch in api.platform.blobs.all_keys() for key in batch]
            await seen_unnamed(api.platform.db, stored, ago_s=2 * 3600)
            assert await api.platform.maintenance.remove_orphans() == 2
            async for piece in pieces:
                read += piece
    assert members(bytes(read)) == files


async def test_aborted_downloads_leave_no_file_open(settings: Settings) -> None:
    async with served(settings) as api:
        for number in range(20):
            (await api.client.put(f"{HERE}/obj/{number}", content=os.urandom(300_000))).raise_for_status()
        work = api.platform.blobs.work_root
        await asyncio.gather(*(broken_off(api) for _ in range(30)))
        await until(lambda: not [*work.glob("send-*")])
        await until(lambda: not open_below(work.parent))


def open_below(folder: Path) -> list[str]:
    """Files below the folder, including removed ones, that this process has open."""
    found: list[str] = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return [file for file in found if file.startswith(f"{folder}/")]


async def broken_off(api: Served) -> None:
    """Start a download over a separate connection, and disconnect."""
    async with (
        httpx.AsyncClient(
            base_url=api.client.base_url, headers=api.client.headers, trust_env=False, timeout=60
        ) as client,
        client.stream("GET", f"{HERE}/download") as answer,
    ):
        assert await anext(answer.aiter_raw())


async def test_concurrent_downloads_are_both_complete(settings: Settings) -> None:
    files = {f"{number}": os.urandom(700_000) for number in range(10)}
    async with served(settings) as api:
        for path, content in files.items():
            (await api.client.put(f"{HERE}/obj/{path}", content=content)).raise_for_status()
        wanted = {"path": list(files)}
        answers = await asyncio.gather(*(api.client.get(f"{HERE}/download", params=wanted) for _ in range(2)))
        assert [members(answer.content) for answer in answers] == [files, files]


FILL = text("""
    INSERT INTO entries (id, dataset_id, path, parent, depth, type, sha256, indexed)
        SELECT gen_random_uuid(), d.id, lpad(n::text, 6, '0'), '', 0, 'directory', '', true
        FROM datasets d, generate_series(CAST(:first AS int), CAST(:last AS int)) n
""")


async def test_too_many_entries_name_the_task_to_submit(settings: Settings) -> None:
    async with served(settings) as api:
        async with api.platform.db.begin() as connection:
            await connection.execute(FILL, {"first": 1, "last": 10_000})
        whole = await api.client.get(f"{HERE}/download")
        assert (whole.status_code, len(members(whole.content))) == (200, 10_000 + 2)

        async with api.platform.db.begin() as connection:
            await connection.execute(FILL, {"first": 10_001, "last": 10_001})
        refused = await api.client.get(f"{HERE}/download")
        assert (refused.status_code, refused.json()["code"]) == (413, "use-bulk-download")

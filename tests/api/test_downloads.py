"""Several entries as one download."""

from __future__ import annotations

import io
import os
import zipfile

import pytest
from tests.support.served import served
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


def test_one_file_comes_as_it_is(dataset: Dataset) -> None:
    answer = dataset.client.get(
        f"{dataset.address}/download", params={"path": "photos/1.jpg"}, headers={"range": "bytes=0-9"}
    )
    assert (answer.status_code, answer.content) == (206, FILES["photos/1.jpg"][:10])
    assert answer.headers["content-type"] == "image/jpeg"


def test_several_come_as_a_zip_of_known_length(dataset: Dataset) -> None:
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


def test_without_paths_everything_comes(dataset: Dataset) -> None:
    found = members(dataset.client.get(f"{dataset.address}/download").content)
    assert {name: content for name, content in found.items() if not name.endswith("/")} == FILES
    assert "empty/" in found


def test_head_tells_the_length_without_the_content(dataset: Dataset) -> None:
    whole = dataset.client.get(f"{dataset.address}/download")
    head = dataset.client.head(f"{dataset.address}/download")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_a_path_that_names_nothing_is_404(dataset: Dataset) -> None:
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": ["a.txt", "none"]})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-entry")
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": "none"})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-entry")


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", ".ddb/x", "a\\..\\b", "%2e%2e/x", "a\0b", "zip://x", ""]
)
def test_a_path_that_leads_elsewhere_is_400(dataset: Dataset, path: str) -> None:
    answer = dataset.client.get(f"{dataset.address}/download", params={"path": ["a.txt", path]})
    code = "invalid-request" if "\0" in path else "invalid-path"  # no address may hold a NUL
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_whoever_may_not_read_gets_nothing(world: World, dataset: Dataset) -> None:
    private = world.dataset()
    stranger = world.client(world.user())
    assert private.seen_by(stranger).client.get(f"{private.address}/download").status_code == 404
    assert world.client().get(f"{private.address}/download").status_code == 401
    assert world.client().get(f"{dataset.address}/download").status_code == 200


async def test_more_than_the_threshold_names_the_task_to_submit(settings: Settings) -> None:
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

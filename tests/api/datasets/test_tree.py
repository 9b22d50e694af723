"""Renaming, copying, searching and listing entries over HTTP."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.raster.rasters import slope, write_raster
from tests.support.processes import running
from tests.support.world import Dataset, World, eventually


@pytest.fixture
def dataset(world: World) -> Dataset:
    return world.dataset()


def fill(dataset: Dataset, *paths: str) -> None:
    for path in paths:
        dataset.upload(path, path.encode(), indexed=False)


def rename(dataset: Dataset, source: str, dest: str) -> httpx.Response:
    return dataset.client.put(f"{dataset.address}/obj", json={"source": source, "dest": dest})


def copy(dataset: Dataset, source: str, dest: str) -> httpx.Response:
    return dataset.client.post(f"{dataset.address}/obj/copy", json={"source": source, "dest": dest})


def search(dataset: Dataset, **body: Any) -> list[str]:
    answer = dataset.client.post(f"{dataset.address}/search", json=body)
    assert answer.status_code == 200, answer.text
    return [item["path"] for item in answer.json()["items"]]


def content_of(dataset: Dataset, path: str) -> bytes:
    return dataset.client.get(f"{dataset.address}/obj/{path}").raise_for_status().content


def test_a_file_is_renamed_with_its_content_and_metadata(dataset: Dataset) -> None:
    before = dataset.upload("a/one.md", b"# One")
    answer = rename(dataset, "a/one.md", "b/c/two.md")
    assert answer.status_code == 200
    assert answer.json() == {**before, "path": "b/c/two.md", "depth": 2}
    assert dataset.paths() == ["a", "b", "b/c", "b/c/two.md"]
    assert content_of(dataset, "b/c/two.md") == b"# One"
    assert dataset.client.get(f"{dataset.address}/obj/a/one.md").status_code == 404


def test_a_folder_is_renamed_with_everything_below_it_and_nothing_else(dataset: Dataset) -> None:
    fill(dataset, "a/one.txt", "a/sub/two.txt", "a/sub/deep/three.txt", "a-b.txt", "a0.txt", "ab/four.txt")
    assert rename(dataset, "a", "new/place").status_code == 200
    assert dataset.paths() == [
        "a-b.txt",
        "a0.txt",
        "ab",
        "ab/four.txt",
        "new",
        "new/place",
        "new/place/one.txt",
        "new/place/sub",
        "new/place/sub/deep",
        "new/place/sub/deep/three.txt",
        "new/place/sub/two.txt",
    ]
    deep = dataset.entry("new/place/sub/deep/three.txt")
    assert (deep["depth"], content_of(dataset, deep["path"])) == (4, b"a/sub/deep/three.txt")
    listed = dataset.client.get(f"{dataset.address}/list", params={"path": "new/place/sub"}).json()
    assert [entry["path"] for entry in listed] == ["new/place/sub/deep", "new/place/sub/two.txt"]


def test_a_folder_can_get_a_name_with_the_same_prefix(dataset: Dataset) -> None:
    fill(dataset, "a/a/a.txt")
    assert rename(dataset, "a", "aa").status_code == 200
    assert dataset.paths() == ["aa", "aa/a", "aa/a/a.txt"]
    assert rename(dataset, "aa/a", "a").status_code == 200
    assert dataset.paths() == ["a", "a/a.txt", "aa"]


@pytest.mark.parametrize("change", [rename, copy])
def test_nothing_is_overwritten_or_moved_to_an_invalid_path(dataset: Dataset, change: Any) -> None:
    fill(dataset, "a/one.txt", "b/two.txt", "c.txt")
    before = dataset.paths()
    refusals = {
        ("a/one.txt", "c.txt"): (409, "entry-exists"),
        ("a", "b"): (409, "entry-exists"),
        ("c.txt", "b"): (409, "entry-exists"),
        ("c.txt", "c.txt"): (409, "entry-exists"),
        ("a", "c.txt/a"): (409, "entry-is-file"),
        ("a", "a/sub"): (400, "path-within-itself"),
        ("nothing", "d"): (404, "no-such-entry"),
        ("a", "../d"): (400, "invalid-path"),
        ("a", ".ddb"): (400, "invalid-path"),
        ("", "d"): (400, "invalid-path"),
        ("a", "x" * 256): (400, "invalid-path"),
        ("a", "/".join(["x" * 200] * 5) + "/" + "y" * 18): (400, "invalid-path"),
    }
    for (source, dest), expected in refusals.items():
        answer = change(dataset, source, dest)
        assert (answer.status_code, answer.json()["code"]) == expected, (source, dest)
    assert dataset.paths() == before


def test_a_file_whose_suffix_changes_is_indexed_again(dataset: Dataset, tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "a.tif", slope((3, 4)))
    assert dataset.upload("a.bin", raster)["type"] == "geoRaster"  # detected from its content
    renamed = rename(dataset, "a.bin", "a.tif").json()
    assert (renamed["type"], renamed["indexed"], renamed["properties"]) == ("image", False, {})
    eventually(lambda: dataset.entry("a.tif")["indexed"])
    assert dataset.entry("a.tif")["type"] == "geoRaster"
    assert copy(dataset, "a.tif", "b.bin").json()["type"] == "generic"


def test_a_copy_has_the_same_content_and_metadata_and_is_independent(dataset: Dataset) -> None:
    original = dataset.upload("a/one.md", b"# One")
    answer = copy(dataset, "a", "b/a")
    assert (answer.status_code, answer.headers["location"]) == (201, f"{dataset.address}/obj/b/a")
    copied = dataset.entry("b/a/one.md")
    assert {**copied, "mtime": 0} == {**original, "path": "b/a/one.md", "depth": 2, "mtime": 0}
    dataset.upload("a/one.md", b"# Another", indexed=False)
    dataset.client.delete(f"{dataset.address}/obj/a").raise_for_status()
    assert content_of(dataset, "b/a/one.md") == b"# One"


@pytest.mark.parametrize("change", [rename, copy])
def test_changes_need_write_access(world: World, dataset: Dataset, change: Any) -> None:
    fill(dataset, "a.txt")
    reader = dataset.seen_by(world.member(dataset.org, "readOnly"))
    writer = dataset.seen_by(world.member(dataset.org, "readWrite"))
    stranger = dataset.seen_by(world.client(world.user()))
    answers = [change(who, "a.txt", "b.txt").status_code for who in (reader, stranger, writer)]
    assert answers == [403, 404, 200 if change is rename else 201]


def test_a_running_task_is_unaffected_when_its_input_is_renamed_and_removed(
    dataset: Dataset, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    fill(dataset, "a/in.txt")
    task = dataset.submit("patient", {"path": "a/in.txt", "until": str(go)})
    waiting = dataset.submit(
        "patient", {"path": "a/in.txt", "label": "later"}, scheduledAt="2026-12-31T00:00:00Z"
    )
    eventually(lambda: len(running(go)) == 1)
    assert rename(dataset, "a", "b").status_code == 200
    dataset.client.delete(f"{dataset.address}/obj/b").raise_for_status()
    go.touch()
    status = dataset.wait(task)
    assert (status["state"], status["inputs"][0]["path"]) == ("Succeeded", "a/in.txt")
    assert dataset.client.get(status["artifact"]["resultUrl"]).content == b"a/in.txt"
    dataset.client.delete(f"{dataset.address}/tasks/{waiting}").raise_for_status()


def test_one_of_many_concurrent_renames_succeeds(world: World, dataset: Dataset) -> None:
    fill(dataset, "a.txt")
    answers: list[int] = []

    def race(number: int) -> None:
        answers.append(rename(dataset, "a.txt", f"b{number}.txt").status_code)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answers) == {200: 1, 404: 7}
    assert len(dataset.paths()) == 1


def test_searches_find_by_text_pattern_type_and_folder(dataset: Dataset) -> None:
    fill(dataset, "Flug/Über.md", "Flug/a.laz", "Flug/sub/b.laz", "c.LAZ", "d_e%f.txt")
    assert search(dataset, query="über") == ["Flug/Über.md"]
    assert search(dataset, query="LAZ") == ["Flug/a.laz", "Flug/sub/b.laz", "c.LAZ"]
    assert search(dataset, query="_") == ["d_e%f.txt"]
    assert search(dataset, query="e%f") == ["d_e%f.txt"]
    assert search(dataset, query="*.laz") == ["Flug/a.laz", "Flug/sub/b.laz"]
    assert search(dataset, query="Flug/*.laz") == ["Flug/a.laz"]
    assert search(dataset, query="Fl?g/**") == ["Flug/a.laz", "Flug/sub", "Flug/sub/b.laz", "Flug/Über.md"]
    assert search(dataset, types=["markdown"]) == ["Flug/Über.md"]
    assert search(dataset, types=["directory", "markdown"], path="Flug") == ["Flug/sub", "Flug/Über.md"]
    assert search(dataset, path="Flug/sub") == ["Flug/sub/b.laz"]
    assert search(dataset, query="nothing like it") == []
    assert len(search(dataset)) == 7


def test_search_texts_are_normalized_like_paths(dataset: Dataset) -> None:
    composed, decomposed = "caf\u00e9.txt", "cafe\u0301.txt"
    dataset.upload(decomposed, b"x", indexed=False)
    assert dataset.paths() == [composed]
    assert search(dataset, query=decomposed) == [composed]
    assert search(dataset, query="*e\u0301.txt") == [composed]
    task_id = dataset.submit("patient", {"path": decomposed})
    tasks = dataset.client.get(f"{dataset.address}/tasks", params={"path": decomposed}).json()
    assert [task["taskId"] for task in tasks] == [task_id]


def test_searches_are_paged(dataset: Dataset) -> None:
    fill(dataset, *(f"{number}.txt" for number in range(5)))

    def page(**body: int) -> dict[str, Any]:
        answer = dataset.client.post(f"{dataset.address}/search", json=body).json()
        return {**answer, "items": [item["path"] for item in answer["items"]]}

    assert page(take=2) == {"items": ["0.txt", "1.txt"], "skip": 0, "take": 2, "more": True}
    assert page(skip=3, take=2) == {"items": ["3.txt", "4.txt"], "skip": 3, "take": 2, "more": False}
    assert page(take=100_000)["take"] == 1000
    assert page(take=-5)["take"] == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"bbox": [0, 0, 1]}, "invalid-request"),
        ({"bbox": [0, 1, 1, 0]}, "invalid-bbox"),
        ({"bbox": [0, -91, 1, 0]}, "invalid-bbox"),
        ({"types": ["spaceship"]}, "invalid-request"),
        ({"query": "*" * 17}, "invalid-pattern"),
        ({"query": "x" * 257}, "invalid-request"),
        ({"path": "../a"}, "invalid-path"),
        ({"skip": -1}, "invalid-request"),
        ({"querry": "a"}, "invalid-request"),
    ],
)
def test_a_malformed_search_says_what_is_wrong(dataset: Dataset, body: dict[str, Any], code: str) -> None:
    answer = dataset.client.post(f"{dataset.address}/search", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_an_empty_list_is_an_empty_array(dataset: Dataset) -> None:
    answer = dataset.client.get(f"{dataset.address}/list")
    assert (answer.content, answer.headers["content-type"]) == (b"[]", "application/json")

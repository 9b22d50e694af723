"""Metadata extraction in processes, some of which are lost."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.metadata.photo_files import write_photo
from tests.metadata.vectors import write_points
from tests.support.world import eventually

from aerotask.metadata.extractor_pool import ExtractedMetadata, extracting


def all_of(files: dict[str, Path], *, processes: int = 2) -> dict[str, ExtractedMetadata]:
    with extracting(files, processes=processes) as results:
        return {found.path: found for found in results}


def extractors() -> list[psutil.Process]:
    """The extractor processes of this one."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "aerotask.metadata.extractor_process" in child.cmdline()]


def test_every_file_gets_its_metadata_and_hash_under_its_path(tmp_path: Path) -> None:
    files = {f"photos/{n}.jpg": write_photo(tmp_path / f"{n}.jpg", size=(8 + n, 8)) for n in range(5)}
    (tmp_path / "bad.laz").write_bytes(b"no cloud")
    found = all_of({**files, "bad.laz": tmp_path / "bad.laz"})
    assert [found[path].description.properties["width"] for path in files] == [8, 9, 10, 11, 12]
    assert found["bad.laz"].description.error is not None
    assert {path: found[path].sha256 for path in files} == {
        path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in files.items()
    }


def test_what_a_library_said_about_a_file_is_logged_by_the_parent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_points(tmp_path / "a.gpkg")
    path.write_bytes(path.read_bytes()[:30_000])
    found = all_of({"maps/a.gpkg": path})["maps/a.gpkg"].description
    assert "malformed" not in (found.error or "")
    assert "'a.gpkg': unreadable-vector: DataSourceError: " in caplog.text
    assert "database disk image is malformed" in caplog.text


def test_no_files_need_no_process(tmp_path: Path) -> None:
    assert all_of({}) == {}


def kill_reader(pipe: Path, *, replacement: Path | None = None) -> None:
    """Kill the extractor process that reads the pipe, which has no content; before, put another file in its place."""
    writers: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # ENXIO: no process has opened it
            writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    eventually(is_read)
    if replacement is not None:
        replacement.replace(pipe)
    readers = extractors()
    for reader in readers:
        reader.kill()
    # A zombie isn't enough: its threads may still hold the pipe open, and would count as the next reader.
    eventually(lambda: not any(psutil.pid_exists(reader.pid) for reader in readers))
    os.close(writers[0])


def test_a_file_whose_extractor_is_killed_once_is_read_again(tmp_path: Path) -> None:
    pipe = tmp_path / "a.jpg"
    os.mkfifo(pipe)
    good = write_photo(tmp_path / "good.jpg", size=(9, 8))
    helper = threading.Thread(target=kill_reader, args=(pipe,), kwargs={"replacement": good})
    helper.start()
    found = all_of({"a.jpg": pipe})
    helper.join()
    assert found["a.jpg"].description.properties["width"] == 9


def test_a_file_whose_extractor_dies_three_times_is_given_up_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    pipe = tmp_path / "stuck.laz"
    os.mkfifo(pipe)
    files = {"stuck.laz": pipe, "a.jpg": write_photo(tmp_path / "a.jpg")}

    content = tmp_path / "content"
    content.write_bytes(b"for the hash")

    def kill_three_times() -> None:
        for _ in range(2):
            kill_reader(pipe)
        kill_reader(pipe, replacement=content)

    helper = threading.Thread(target=kill_three_times)
    helper.start()
    found = all_of(files, processes=1)
    helper.join()
    lost = found["stuck.laz"].description
    assert (lost.type, lost.properties["indexError"]["code"]) == ("pointCloud", "index-given-up")
    assert "attempt 3: it was ended by SIGKILL" in str(lost.error)
    assert found["a.jpg"].description.type == "image"
    assert extractors() == []


def test_leaving_the_block_early_ends_the_processes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stuck.laz")
    files = {"a.jpg": write_photo(tmp_path / "a.jpg"), "stuck.laz": tmp_path / "stuck.laz"}
    with extracting(files, processes=1) as results:
        assert next(results).path == "a.jpg"
    assert extractors() == []

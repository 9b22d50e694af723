"""Many files described in processes of their own, some of which are lost."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import psutil
from tests.metadata.photo_files import write_photo
from tests.support.world import eventually

from aerotask.metadata.extractor_pool import ExtractedMetadata, describing


def all_of(files: dict[str, Path], *, processes: int = 2) -> dict[str, ExtractedMetadata]:
    with describing(files, processes=processes) as results:
        return {found.path: found for found in results}


def readers() -> list[psutil.Process]:
    """The reading processes of this one."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "aerotask.metadata.extractor_process" in child.cmdline()]


def test_every_file_is_described_and_hashed_under_its_path(tmp_path: Path) -> None:
    files = {f"photos/{n}.jpg": write_photo(tmp_path / f"{n}.jpg", size=(8 + n, 8)) for n in range(5)}
    (tmp_path / "bad.laz").write_bytes(b"no cloud")
    found = all_of({**files, "bad.laz": tmp_path / "bad.laz"})
    assert [found[path].description.properties["width"] for path in files] == [8, 9, 10, 11, 12]
    assert found["bad.laz"].description.fault is not None
    assert {path: found[path].sha256 for path in files} == {
        path: hashlib.sha256(file.read_bytes()).hexdigest() for path, file in files.items()
    }


def test_no_files_need_no_process(tmp_path: Path) -> None:
    assert all_of({}) == {}


def test_a_file_that_ends_its_reader_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    # Opening a pipe waits for a writer: the reader stands still until we kill it, and then we feed the pipe.
    os.mkfifo(tmp_path / "stuck.laz")
    files = {"stuck.laz": tmp_path / "stuck.laz", "a.jpg": write_photo(tmp_path / "a.jpg")}

    def kill_the_reader_and_feed_the_pipe() -> None:
        eventually(lambda: len(readers()) == 1)
        for reader in readers():
            reader.kill()
        (tmp_path / "stuck.laz").write_bytes(b"for the hash")

    helper = threading.Thread(target=kill_the_reader_and_feed_the_pipe)
    helper.start()
    found = all_of(files, processes=1)
    helper.join()
    assert (
        found["stuck.laz"].description.fault
        == "The metadata of the file could not be extracted: it ended its reader."
    )
    assert found["a.jpg"].description.type == "image"
    assert readers() == []


def test_leaving_early_ends_the_processes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stuck.laz")
    files = {"a.jpg": write_photo(tmp_path / "a.jpg"), "stuck.laz": tmp_path / "stuck.laz"}
    with describing(files, processes=1) as results:
        assert next(results).path == "a.jpg"
    assert readers() == []

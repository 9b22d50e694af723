"""bulk-download as a tool: what it refuses, plans and packs."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.sdk import Limits
from aerotask.sdk.testing import ToolHarness
from aerotask.tools.bulk_download import BulkDownload

TOOL = BulkDownload()
FILES = {
    "a.txt": b"hello" * 50,
    "photos/1.jpg": b"\xff\xd8" * 99,
    "photos/sub/2.jpg": b"2",
    "photosynthesis.txt": b"x",
}


@pytest.fixture
def harness(tmp_path: Path) -> ToolHarness:
    dataset, work = tmp_path / "field", tmp_path / "work"
    work.mkdir()
    for path, content in FILES.items():
        file = dataset / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (1_700_000_000, 1_700_000_000))
    (dataset / "empty").mkdir()
    return ToolHarness(dataset, work, describe=lambda _: ("generic", {"seen": True}))


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return opened.namelist()


def test_without_paths_the_whole_dataset_comes_with_its_index(harness: ToolHarness, tmp_path: Path) -> None:
    outcome = harness.run(TOOL, {})
    assert names(outcome.artifact) == [
        "a.txt",
        "empty/",
        "photos/",
        "photos/1.jpg",
        "photos/sub/",
        "photos/sub/2.jpg",
        "photosynthesis.txt",
        ".ddb/",
        ".ddb/dbase.sqlite",
    ]
    with zipfile.ZipFile(outcome.artifact) as archive:
        archive.extract(".ddb/dbase.sqlite", tmp_path)
        assert {name: archive.read(name) for name in FILES} == FILES
        assert archive.getinfo("photos/1.jpg").compress_type == zipfile.ZIP_STORED
    with closing(sqlite3.connect(tmp_path / ".ddb" / "dbase.sqlite")) as index:
        found = dict(index.execute("SELECT path, hash FROM entries WHERE hash != ''"))
        seen = {row[0] for row in index.execute("SELECT properties FROM entries WHERE hash != ''")}
    assert found == {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    assert seen == {'{"seen":true}'}


def test_null_is_the_whole_dataset_too(harness: ToolHarness) -> None:
    assert ".ddb/dbase.sqlite" in names(harness.run(TOOL, {"paths": None}).artifact)


def test_a_selection_has_what_is_named_and_all_below_it(harness: ToolHarness) -> None:
    outcome = harness.run(TOOL, {"paths": ["photos", "a.txt", "photos/1.jpg"]})
    assert names(outcome.artifact) == [
        "a.txt",
        "photos/",
        "photos/1.jpg",
        "photos/sub/",
        "photos/sub/2.jpg",
    ]


def test_the_result_says_what_was_packed(harness: ToolHarness) -> None:
    outcome = harness.run(TOOL, {"paths": ["photos"]})
    content = outcome.artifact.read_bytes()
    assert outcome.result == {
        "files": 2,
        "folders": 2,
        "bytes": 199,
        "archiveBytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "warnings": [],
    }
    assert outcome.changes.artifacts[0].sha256 == outcome.result["sha256"]
    assert any("2 files" in line for line in outcome.log)
    fractions = [step.fraction for step in outcome.progress]
    assert (fractions, fractions[-1]) == (sorted(fractions), 1.0)


def test_the_name_is_the_datasets_unless_another_is_given(harness: ToolHarness) -> None:
    assert harness.run(TOOL, {"paths": ["a.txt"]}).changes.artifacts[0].name == "field.zip"


def test_another_name_can_be_given(harness: ToolHarness) -> None:
    outcome = harness.run(TOOL, {"paths": ["a.txt"], "archiveName": "mine.zip"})
    assert outcome.changes.artifacts[0].name == "mine.zip"


@pytest.mark.parametrize(
    ("given", "name"), [("mine", "mine.zip"), ("mine.tar", "mine.tar.zip"), ("MINE.ZIP", "MINE.ZIP")]
)
def test_a_name_gets_its_suffix(harness: ToolHarness, given: str, name: str) -> None:
    outcome = harness.run(TOOL, {"paths": ["a.txt"], "archiveName": given})
    assert outcome.changes.artifacts[0].name == name


@pytest.mark.parametrize(
    "params",
    [
        {"paths": []},
        {"paths": "a.txt"},
        {"paths": ["../x"]},
        {"paths": [".ddb/x"]},
        {"paths": [""]},
        {"archiveName": "a/b.zip"},
        {"archiveName": "a\n.zip"},
        {"archiveName": "n" * 252},
        {"path": "a.txt"},
    ],
)
def test_params_that_do_not_fit_are_refused(harness: ToolHarness, params: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        harness.check(TOOL, params)


def test_a_path_that_names_nothing_is_refused(harness: ToolHarness) -> None:
    with pytest.raises(InvalidInput) as caught:
        harness.check(TOOL, {"paths": ["a.txt", "b.txt"]})
    assert caught.value.code == "no-such-entry"


def test_the_estimate_is_not_below_what_comes_out(harness: ToolHarness) -> None:
    (harness.dataset / "noise.bin").write_bytes(os.urandom(300_000))
    outcome = harness.run(TOOL, {})
    assert outcome.artifact.stat().st_size <= outcome.plan.estimated_output_bytes <= 400_000
    assert outcome.plan.writes == ()


def test_names_that_collide_elsewhere_are_warned_of(harness: ToolHarness) -> None:
    (harness.dataset / "A.txt").write_bytes(b"other")
    outcome = harness.run(TOOL, {})
    assert outcome.result["warnings"] == ["'a.txt' and 'A.txt' are the same name on some systems."]


def test_what_archive_extract_would_refuse_is_warned_of(harness: ToolHarness, tmp_path: Path) -> None:
    (harness.dataset / "1/2/3").mkdir(parents=True)
    limits = Limits(archive_depth=2, extracted_entries=3, extracted_bytes=400)
    small = ToolHarness(harness.dataset, tmp_path / "work", limits=limits)
    (harness.dataset / "1/2/3/x.txt").write_bytes(b"x")
    outcome = small.run(TOOL, {"paths": ["1", "a.txt", "photos"]})
    assert outcome.result["warnings"] == [
        "Paths more than 2 folders deep ('1/2/3/x.txt' is one of 1): extraction will reject this ZIP.",
        "More than 3 members: extraction will reject this ZIP.",
        "More than 400 bytes: extraction will reject this ZIP.",
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("small.txt", b"x" * 1000, id="in a batch"),
        pytest.param("photo.jpg", b"x" * 2_000_000, id="stored"),
        pytest.param("text.txt", b"x" * 2_000_000, id="deflated in memory"),
        pytest.param("noise.bin", os.urandom(2_000_000), id="stored, since deflating doesn't help"),
        pytest.param("large.txt", b"x" * 17_000_000, id="deflated into the file"),
    ],
)
def test_a_damaged_input_is_not_packed(harness: ToolHarness, name: str, content: bytes) -> None:
    (harness.dataset / name).write_bytes(content)
    recorded = {name: hashlib.sha256(b"the content that was stored").hexdigest()}
    with pytest.raises(TaskFailed, match=f"'{name}' is damaged") as caught:
        replace(harness, recorded=recorded).run(TOOL, {})
    assert caught.value.code == "content-damaged"

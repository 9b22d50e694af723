"""archive-extract as a tool: what it refuses, and what it declares."""

from __future__ import annotations

import gzip
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.archives.archive_files import Member, sevenzipped, tar_block, tarred, zip_of, zipped

from aerotask.archives.rar import rar_extractor
from aerotask.domain.access import Access
from aerotask.domain.errors import InvalidInput, TaskFailed
from aerotask.metadata.extract import extract_metadata
from aerotask.sdk import Limits
from aerotask.sdk.changes import Existing, PutEntry, PutFolder, RemoveEntry
from aerotask.sdk.testing import ToolHarness, ToolOutcome
from aerotask.tools.archive_extract import ArchiveExtract, ArchiveExtractParams
from aerotask.tools.bulk_download import BulkDownload

TOOL = ArchiveExtract()


def make_harness(folder: Path, files: dict[str, bytes], **options: Any) -> ToolHarness:
    dataset, work = folder / "field", folder / "work"
    for path in (dataset, work):
        path.mkdir(parents=True)
    for name, content in files.items():
        file = dataset / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return ToolHarness(dataset, work, **options)


def put(outcome: ToolOutcome) -> dict[str, bytes]:
    """The contents that were declared."""
    return {
        edit.at: edit.content.read_bytes() for edit in outcome.changes.edits if isinstance(edit, PutEntry)
    }


def folders(outcome: ToolOutcome) -> set[str]:
    return {edit.at for edit in outcome.changes.edits if isinstance(edit, PutFolder)}


def test_files_and_folders_become_entries(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"in/a.zip": zipped({"x/y.txt": b"y", "e/": b"", "z.txt": b"zz"})})
    outcome = harness.run(TOOL, {"sourcePath": "in/a.zip"})
    assert put(outcome) == {"x/y.txt": b"y", "z.txt": b"zz"}
    assert folders(outcome) == {"e"}
    assert outcome.result == {
        "extracted": 2,
        "skipped": 0,
        "ignored": 0,
        "bytes": 3,
        "format": "ZIP",
        "warnings": [],
    }
    assert "'in/a.zip' is ZIP: 2 files extracted." in outcome.log
    assert [step.fraction for step in outcome.progress][-1] == 1.0


def test_a_destination_is_made_and_filled(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"a.tar": tarred({"y.txt": b"y"})})
    outcome = harness.run(TOOL, {"sourcePath": "a.tar", "destPath": "new/place"})
    assert (put(outcome), folders(outcome)) == ({"new/place/y.txt": b"y"}, {"new/place"})
    assert outcome.plan.writes == ("new/place",)


def test_files_that_are_there_are_skipped(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"a.zip": zipped({"old.txt": b"2", "new.txt": b"2"}), "old.txt": b"1"})
    outcome = harness.run(TOOL, {"sourcePath": "a.zip"})
    assert put(outcome) == {"new.txt": b"2"}
    assert (outcome.result["extracted"], outcome.result["skipped"]) == (1, 1)
    assert any("'old.txt'" in line for line in outcome.log)
    assert [edit.existing for edit in outcome.changes.edits if isinstance(edit, PutEntry)] == [Existing.KEEP]


def test_files_that_are_there_are_replaced_on_demand(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"a.zip": zipped({"old.txt": b"2"}), "old.txt": b"1"})
    outcome = harness.run(TOOL, {"sourcePath": "a.zip", "overwrite": True})
    assert (put(outcome), outcome.result["skipped"]) == ({"old.txt": b"2"}, 0)
    assert [edit.existing for edit in outcome.changes.edits if isinstance(edit, PutEntry)] == [
        Existing.REPLACE
    ]


def test_the_archive_goes_last_if_that_is_wanted(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"in/a.zip": zipped({"x": b""})})
    outcome = harness.run(TOOL, {"sourcePath": "in/a.zip", "destPath": "out", "deleteArchive": True})
    assert outcome.changes.edits[-1] == RemoveEntry("in/a.zip")
    assert outcome.plan.writes == ("out", "in/a.zip")


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_archive_that_holds_a_file_of_its_own_name_stays(tmp_path: Path, *, overwrite: bool) -> None:
    harness = make_harness(tmp_path, {"a.zip": zipped({"a.zip": b"inner", "b.txt": b"b"})})
    outcome = harness.run(TOOL, {"sourcePath": "a.zip", "deleteArchive": True, "overwrite": overwrite})
    assert put(outcome) == {"b.txt": b"b", **({"a.zip": b"inner"} if overwrite else {})}
    assert not any(isinstance(edit, RemoveEntry) for edit in outcome.changes.edits)
    assert "Warning: 'a.zip' is kept, since the archive contains a file of the same path." in outcome.log


def test_removing_the_archive_needs_the_right_to_delete() -> None:
    plain = ArchiveExtractParams.model_validate({"sourcePath": "a.zip"})
    removing = ArchiveExtractParams.model_validate({"sourcePath": "a.zip", "deleteArchive": True})
    assert (TOOL.required_access(plain), TOOL.required_access(removing)) == (Access.WRITE, Access.DELETE)


def test_an_all_zip_of_odm_comes_out_as_it_is(tmp_path: Path) -> None:
    produced = {
        "odm_orthophoto/odm_orthophoto.tif": os.urandom(5000),
        "odm_georeferencing/odm_georeferenced_model.laz": os.urandom(5000),
        "odm_texturing/odm_textured_model_geo.obj": b"v 0 0 0\n" * 500,
        "odm_texturing/odm_textured_model_geo.mtl": b"newmtl a\n",
        "odm_texturing/odm_textured_model_geo_material0000_map_Kd.png": os.urandom(500),
        "odm_report/report.pdf": b"%PDF-1.4",
        "cameras.json": b"{}",
        "images.json": b"[]",
    }
    empty = {"odm_meshing/": b"", "entwine_pointcloud/": b""}
    harness = make_harness(tmp_path, {"all.zip": zipped({**empty, **produced})})
    outcome = harness.run(TOOL, {"sourcePath": "all.zip", "destPath": "results"})
    assert put(outcome) == {f"results/{name}": content for name, content in produced.items()}
    assert folders(outcome) == {"results", "results/odm_meshing", "results/entwine_pointcloud"}


@pytest.mark.parametrize("name", ["notes.txt", "photo.jpg", "clip.mp4"])
def test_what_can_be_no_archive_is_refused_at_submit(tmp_path: Path, name: str) -> None:
    harness = make_harness(tmp_path, {name: b"x"})
    with pytest.raises(InvalidInput) as caught:
        harness.check(TOOL, {"sourcePath": name})
    assert caught.value.code == "unsupported-format"


def test_what_the_index_knows_to_be_something_else_is_refused_at_submit(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"a.zip": b"x"}, describe=lambda _: ("geoRaster", {}))
    with pytest.raises(InvalidInput) as caught:
        harness.check(TOOL, {"sourcePath": "a.zip"})
    assert caught.value.code == "unsupported-format"


def test_a_rar_is_refused_at_submit_where_nothing_can_read_it(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"a.rar": b"Rar!\x1a\x07\x01\x00"})
    if rar_extractor():
        pytest.skip("bsdtar is installed here")
    with pytest.raises(InvalidInput) as caught:
        harness.check(TOOL, {"sourcePath": "a.rar"})
    assert (caught.value.code, "bsdtar" in caught.value.message) == ("unsupported-format", True)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"sourcePath": "none.zip"}, "no-such-entry"),
        ({"sourcePath": "folder"}, "not-a-file"),
        ({"sourcePath": "a.zip", "destPath": "file.bin"}, "not-a-folder"),
        ({"sourcePath": "large.zip"}, "archive-over-limit"),
    ],
)
def test_what_has_no_place_or_is_too_large_is_refused_at_submit(
    tmp_path: Path, params: dict[str, object], code: str
) -> None:
    files = {"a.zip": b"x", "folder/b": b"x", "file.bin": b"x", "large.zip": b"x" * 11}
    harness = make_harness(tmp_path, files, limits=Limits(archive_bytes=10))
    with pytest.raises(InvalidInput) as caught:
        harness.check(TOOL, params)
    assert caught.value.code == code


@pytest.mark.parametrize("dest", ["../x", "/etc", "a/../b", ".ddb/x", "a\\b", "zip://x"])
def test_a_destination_that_leads_elsewhere_is_refused(tmp_path: Path, dest: str) -> None:
    harness = make_harness(tmp_path, {"a.zip": b"x"})
    with pytest.raises(ValidationError):
        harness.check(TOOL, {"sourcePath": "a.zip", "destPath": dest})


def test_a_hostile_archive_declares_nothing(tmp_path: Path) -> None:
    harness = make_harness(tmp_path, {"a.zip": zip_of([Member("fine", b"x"), Member("../evil", b"x")])})
    with pytest.raises(InvalidInput) as caught:
        harness.run(TOOL, {"sourcePath": "a.zip"})
    assert caught.value.code == "archive-unsafe-name"
    assert not (tmp_path / "evil").exists()


def test_an_archive_that_announces_more_than_the_disk_has_is_refused(tmp_path: Path) -> None:
    huge = 2**62
    lying = zip_of([Member("a", b"x", size_bytes=0xFFFFFFFE) for _ in range(1)])
    many = zip_of([Member(f"{n}", b"x", size_bytes=0xFFFFFFFE) for n in range(500)])
    limits = Limits(extracted_bytes=huge, extraction_ratio=huge)
    harness = make_harness(tmp_path, {"a.zip": many, "b.zip": lying}, limits=limits)
    with pytest.raises(TaskFailed) as caught:
        harness.run(TOOL, {"sourcePath": "a.zip"})
    assert caught.value.code == "disk-full"


MEMBERS = {"a.bin": os.urandom(3000), "b.bin": os.urandom(3000)}
EVERY_FORMAT = {
    "a.zip": zipped(MEMBERS),
    "a.tar": tarred(MEMBERS),
    "a.tar.gz": gzip.compress(tarred(MEMBERS)),
    "a.bin.gz": gzip.compress(os.urandom(6000)),
    "a.7z": sevenzipped(MEMBERS),
}


@pytest.mark.parametrize("name", EVERY_FORMAT)
def test_what_the_storage_limits_do_not_allow_ends_the_run_before_it_is_declared(
    tmp_path: Path, name: str
) -> None:
    files = {name: EVERY_FORMAT[name]}
    with pytest.raises(TaskFailed) as caught:
        make_harness(tmp_path / "small", files, limits=Limits(storage_left_bytes=5999)).run(
            TOOL, {"sourcePath": name}
        )
    assert caught.value.code == "storage-quota-exceeded"
    enough = make_harness(tmp_path / "enough", files, limits=Limits(storage_left_bytes=6000))
    assert sum(map(len, put(enough.run(TOOL, {"sourcePath": name})).values())) == 6000


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.7z"])
def test_what_is_replaced_or_removed_makes_room(tmp_path: Path, name: str) -> None:
    archive = EVERY_FORMAT[name]
    files = {"out/a.bin": bytes(2500), name: archive}

    def extracted(harness: ToolHarness, **params: bool) -> int:
        return len(put(harness.run(TOOL, {"sourcePath": name, "destPath": "out", **params})))

    limits = Limits(storage_left_bytes=3500)
    assert extracted(make_harness(tmp_path / "1", files, limits=limits), overwrite=True) == 2
    limits = Limits(storage_left_bytes=6000 - len(archive))
    assert extracted(make_harness(tmp_path / "2", {name: archive}, limits=limits), deleteArchive=True) == 2
    # It was lowered below what is there: nothing may be added, yet what adds nothing may be done.
    limits = Limits(storage_left_bytes=-5)
    full = {"out/a.bin": bytes(3000), "out/b.bin": bytes(3000), name: archive}
    assert extracted(make_harness(tmp_path / "3", full, limits=limits), overwrite=True) == 2
    assert extracted(make_harness(tmp_path / "4", full, limits=limits)) == 0


NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn"), exclude_characters="/\\:%."), min_size=1, max_size=8
)
FOLDERS = st.sampled_from(["", "a/", "a/b/", "c/", "deep/" * 32])
SUFFIXES = st.sampled_from(["", ".txt", ".md", ".tif", ".jpg", ".json", ".obj"])
CONTENTS = st.one_of(
    st.binary(max_size=2000),
    # What deflates by a factor of up to a thousand: empty rasters, masks, rows of the same value.
    st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=4), st.integers(1, 600_000)),
)


def as_indexed(file: Path) -> tuple[str, Mapping[str, Any]]:
    """The index metadata of a file."""
    found = extract_metadata(file)
    return found.type, found.properties


def mtimes(outcome: ToolOutcome) -> dict[str, int | None]:
    """The times of change that were declared."""
    return {edit.at: edit.mtime for edit in outcome.changes.edits if isinstance(edit, PutEntry | PutFolder)}


def seen(harness: ToolHarness) -> dict[str, tuple[object, ...]]:
    """All that a dataset has, but for when it was changed."""
    return {
        path: (entry.type, entry.sha256, entry.size_bytes, dict(entry.properties))
        for path, entry in harness.view().entries.items()
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=st.dictionaries(st.tuples(FOLDERS, NAMES, SUFFIXES), CONTENTS, max_size=8),
    empty=st.sampled_from(["", "d/e", "a/f"]),
)
def test_extracting_a_zip_of_a_dataset_gives_the_dataset(
    tmp_path_factory: pytest.TempPathFactory, files: dict[tuple[str, str, str], bytes], empty: str
) -> None:
    # A number before each name, so that no two are one file on any system.
    dataset = {
        unicodedata.normalize("NFC", f"{folder}{n}{name}{suffix}"): content
        for n, ((folder, name, suffix), content) in enumerate(files.items())
    }
    harness = make_harness(tmp_path_factory.mktemp("from"), dataset, describe=as_indexed)
    if empty:
        (harness.dataset / empty).mkdir(parents=True)
    for number, path in enumerate(sorted(harness.dataset.rglob("*"), reverse=True)):
        os.utime(path, (1_600_000_001 + number, 1_600_000_001 + number))
    packed = harness.run(BulkDownload(), {})
    other = make_harness(tmp_path_factory.mktemp("to"), {"copy.zip": packed.artifact.read_bytes()})
    outcome = other.run(TOOL, {"sourcePath": "copy.zip"})
    there = make_harness(tmp_path_factory.mktemp("there"), put(outcome), describe=as_indexed)
    for folder in folders(outcome):
        (there.dataset / folder).mkdir(parents=True, exist_ok=True)
    assert (seen(there), packed.result["warnings"]) == (seen(harness), [])
    assert mtimes(outcome) == {path: entry.mtime for path, entry in harness.view().entries.items()}


def test_times_that_no_entry_can_have_are_left_out(tmp_path: Path) -> None:
    archive = b"".join(
        tar_block(b"%d" % number, b"0", b"x", mtime=mtime)
        for number, mtime in enumerate((b"0\0", b"14000000000\0", b"\x80" + bytes(5) + b"\xff" * 6, b"?"))
    )
    outcome = make_harness(tmp_path, {"a.tar": archive + bytes(1024)}).run(TOOL, {"sourcePath": "a.tar"})
    assert mtimes(outcome) == {"0": None, "1": 0o14000000000, "2": None, "3": None}


def test_encodings_and_litter_are_told_in_log_and_result(tmp_path: Path) -> None:
    korean = Member("", b"x", flags=0, raw_name="사진".encode("cp949"), system=0)
    harness = make_harness(tmp_path, {"a.zip": zip_of([korean, Member(".DS_Store", b"x")])})
    outcome = harness.run(TOOL, {"sourcePath": "a.zip"})
    assert (outcome.result["ignored"], len(outcome.result["warnings"])) == (1, 1)
    assert f"Warning: {outcome.result['warnings'][0]}" in outcome.log
    named = {"sourcePath": "a.zip", "nameEncoding": "cp949", "keepLitter": True}
    again = make_harness(tmp_path / "2", {"a.zip": zip_of([korean, Member(".DS_Store", b"x")])}).run(
        TOOL, named
    )
    assert (put(again), again.result["warnings"]) == ({"사진": b"x", ".DS_Store": b"x"}, [])


@pytest.mark.parametrize("encoding", ["utf8", "rot13", "", None])
def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str | None) -> None:
    harness = make_harness(tmp_path, {"a.zip": b"x"})
    with pytest.raises(ValidationError):
        harness.check(TOOL, {"sourcePath": "a.zip", "nameEncoding": encoding})


def test_an_empty_raster_of_megabytes_comes_back_out_of_our_own_zip(tmp_path: Path) -> None:
    rasters = {"small.tif": bytes(900_000), "empty.tif": bytes(4_000_000), "large.tif": bytes(20_000_000)}
    packed = make_harness(tmp_path / "from", rasters).run(BulkDownload(), {}).artifact.read_bytes()
    assert len(packed) < 600_000
    other = make_harness(tmp_path / "to", {"copy.zip": packed})
    assert put(other.run(TOOL, {"sourcePath": "copy.zip"})) == rasters


def test_our_own_zip_keeps_to_the_ratio_that_is_set(tmp_path: Path) -> None:
    limits = Limits(extraction_ratio=4)
    raster = {"empty.tif": bytes(4_000_000)}
    packed = (
        make_harness(tmp_path / "from", raster, limits=limits).run(BulkDownload(), {}).artifact.read_bytes()
    )
    other = make_harness(tmp_path / "to", {"copy.zip": packed}, limits=limits)
    assert put(other.run(TOOL, {"sourcePath": "copy.zip"})) == raster

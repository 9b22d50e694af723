import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aerotask.domain.errors import InvalidPath, TaskFailed
from aerotask.sdk import EntryView, Limits, Snapshot
from aerotask.sdk.changes import Existing, PutDerivative, PutEntry, PutFolder, RemoveEntry
from aerotask.sdk.run import LogLine, Run, RunProgress
from aerotask.sdk.snapshot import write_snapshot


@pytest.fixture
def events() -> list[RunProgress | LogLine]:
    return []


@pytest.fixture
def run(tmp_path: Path, events: list[RunProgress | LogLine]) -> Run:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "input.tif").write_bytes(b"in")
    return Run(inputs={"a.tif": tmp_path / "input.tif"}, workdir=work, threads=2, emit=events.append)


def test_progress_never_goes_backwards(run: Run, events: list[RunProgress | LogLine]) -> None:
    for fraction in (0.5, 0.2, 0.7, 3.0):
        run.progress(fraction)
    assert [event.fraction for event in events if isinstance(event, RunProgress)] == [0.5, 0.5, 0.7, 1.0]


def test_a_text_of_several_lines_becomes_several_log_lines(
    run: Run, events: list[RunProgress | LogLine]
) -> None:
    run.log("one\ntwo\x1b[0m")
    assert events == [LogLine("one"), LogLine("two [0m")]


def test_only_planned_inputs_can_be_read(run: Run) -> None:
    assert run.input("a.tif").read_bytes() == b"in"
    with pytest.raises(TaskFailed, match="plan doesn't read"):
        run.input("b.tif")


def test_declarations_are_kept_in_order(run: Run) -> None:
    file = run.workdir / "x"
    file.write_bytes(b"x")
    run.remove_entry("old.tif")
    run.put_entry(file, at="new.tif")
    run.publish(file, name="x.bin", media_type="application/octet-stream")
    run.result({"n": float("nan")})

    changes = run.changes()

    assert changes.edits == (RemoveEntry("old.tif"), PutEntry(file, "new.tif"))
    assert [artifact.name for artifact in changes.artifacts] == ["x.bin"]
    assert changes.result == {"n": None}


def test_a_derivative_is_passed_on_at_once(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"made")
    passed_on: list[PutDerivative[Path]] = []
    run = Run(
        inputs={"a.tif": tmp_path / "a.tif"},
        workdir=tmp_path,
        threads=1,
        emit=lambda _event: None,
        on_derivative=passed_on.append,
    )
    run.put_derivative(tmp_path / "made", of="a.tif", kind="cog", builder="1", properties={})
    assert [(made.of, made.kind, made.content) for made in passed_on] == [("a.tif", "cog", tmp_path / "made")]
    assert run.changes().derivatives == tuple(passed_on)


def test_the_hash_of_an_input_is_the_stored_one_or_that_of_the_file(run: Run, tmp_path: Path) -> None:
    assert run.content_hash("a.tif") == hashlib.sha256(b"in").hexdigest()
    stored = Run(inputs=run.inputs, workdir=tmp_path, threads=1, emit=print, hashes={"a.tif": "f" * 64})
    assert stored.content_hash("a.tif") == "f" * 64
    with pytest.raises(TaskFailed, match="plan doesn't read"):
        run.content_hash("b.tif")


def test_an_entry_replaces_an_existing_one_by_default(run: Run) -> None:
    file = run.workdir / "out.tif"
    file.write_bytes(b"out")
    run.put_entry(file, at="a.tif")
    run.put_entry(file, at="b.tif", existing=Existing.REFUSE)
    assert [edit.existing for edit in run.changes().edits if isinstance(edit, PutEntry)] == [
        "replace",
        "refuse",
    ]


def test_what_is_published_again_under_a_name_replaces_the_first_and_keeps_its_place(run: Run) -> None:
    first, second = run.workdir / "1", run.workdir / "2"
    for file in (first, second):
        file.write_bytes(b"x")
    run.publish(first, name="map.tif", media_type="image/tiff")
    run.publish(first, name="legend.txt", media_type="text/plain")
    run.publish(second, name="map.tif", media_type="image/tiff")
    assert [(made.name, made.content) for made in run.changes().artifacts] == [
        ("map.tif", second),
        ("legend.txt", first),
    ]


def test_outputs_must_be_files_of_the_work_folder(run: Run, tmp_path: Path) -> None:
    link = run.workdir / "link"
    link.symlink_to(tmp_path / "input.tif")
    for path in (tmp_path / "input.tif", link, run.workdir, run.workdir / "absent"):
        with pytest.raises(TaskFailed) as refused:
            run.publish(path, name="x", media_type="text/plain")
        assert refused.value.code == "bad-output"


def test_names_of_outputs_are_checked(run: Run) -> None:
    file = run.workdir / "x"
    file.write_bytes(b"x")
    with pytest.raises(InvalidPath):
        run.publish(file, name="../x", media_type="text/plain")
    with pytest.raises(InvalidPath):
        run.put_entry(file, at="../x")


def test_a_file_can_be_put_only_where_none_is_and_folders_can_be_made(run: Run) -> None:
    made = run.workdir / "made.txt"
    made.write_text("x", encoding="utf-8")
    run.put_entry(made, at="a.txt", existing=Existing.KEEP)
    run.put_folder(at="b/c")
    assert run.changes().edits == (
        PutEntry(made.resolve(), "a.txt", existing=Existing.KEEP),
        PutFolder("b/c"),
    )
    with pytest.raises(InvalidPath):
        run.put_folder(at="../c")


def test_a_run_knows_its_inputs_limits_and_snapshot(run: Run, tmp_path: Path) -> None:
    assert dict(run.inputs) == {"a.tif": tmp_path / "input.tif"}
    assert run.limits == Limits()
    assert (run.snapshot.slug, list(run.snapshot.entries())) == ("", [])


async def test_a_snapshot_gives_back_the_entries_that_were_written(tmp_path: Path) -> None:
    entries = [
        EntryView("a", "directory", "", 0, indexed=True, mtime=7),
        EntryView(
            "a/\u00e9\n",
            "geoImage",
            "ab",
            3,
            indexed=False,
            properties={"x": [1]},
            point_geom={"type": "Point"},
        ),
    ]

    async def coming() -> AsyncIterator[EntryView]:
        for entry in entries:
            yield entry

    await write_snapshot(tmp_path / "snapshot", coming())
    assert list(Snapshot("field", tmp_path / "snapshot").entries()) == entries
